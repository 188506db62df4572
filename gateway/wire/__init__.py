"""The wire format of OpenAI's API: from JSON to a request, and from a logged outcome to JSON. No HTTP."""
