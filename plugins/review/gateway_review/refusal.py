"""The stage `refusal`: says that an answer refuses. Policies use it to ask again; it never withholds."""

from __future__ import annotations

from gateway.plugin import Completion, Finding, Prompt, Window
from gateway_review.asked import WIDEST, question
from gateway_review.refusals import refusal


class RefusalAuditor:
    """Finds at most one refusal in each answer: kind `refusal`, label the form, offsets of the words that refuse."""

    def window(self) -> Window:
        """Ask for the part of the opening in which a refusal is clear, and for the opening again and again.

        A refusal holds an answer back, so that the model can be asked once more. One that is clear only later in the
        opening is still found, and leaves: nothing is lost but the second asking.
        """
        return Window(characters=256, overlap=WIDEST)

    async def audit(self, prompt: Prompt, completion: Completion) -> tuple[Finding, ...]:
        """Give the refusals in `completion`; calls of tools do not refuse, so only the text of an answer is read."""
        asked = question(prompt)
        found: list[Finding] = []
        for choice in completion.choices:
            said = refusal(choice.text.text, question=asked)
            if said is not None:
                found.append(
                    Finding(
                        kind="refusal",
                        score=said.score,
                        part=choice.text.id,
                        start=said.start,
                        end=said.end,
                        label=said.form,
                    )
                )
        return tuple(found)
