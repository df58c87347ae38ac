#!/usr/bin/env bash
# Renders 600 hard images of four kinds, and writes two annotation files of 300: train.tsv, fresh.tsv.
#
#   bash experiments/front_door/render.sh WORDS FONTS FOLDER
#
# WORDS: the folder that experiments/pretrained/words.py wrote, with en.txt and es.txt. FONTS: a folder.
set -euo pipefail
words=$1 fonts=$2 folder=$3 here=experiments/front_door
mkdir -p "$folder"
for kind in codes meters spanish two_words; do
  list=en
  if [ $kind = spanish ]; then list=es; fi
  python -m crnn_jax.synthesize -o "$folder/$kind" --count 150 --seed 7 --max-aspect 20 --heights 20-48 \
    --style $here/$kind.json --words "$words/$list.txt" --fonts "$fonts" --table experiments/pretrained/characters.txt >&2
  sed "s#^#$kind/#" "$folder/$kind/labels.tsv"
done > "$folder/all.tsv"
python - "$folder" <<'PYTHON'
import pathlib, random, sys
folder = pathlib.Path(sys.argv[1])
rows = (folder / "all.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
random.Random(0).shuffle(rows)
for name, part in (("train", rows[:300]), ("fresh", rows[300:])):
    (folder / f"{name}.tsv").write_text("".join(part), encoding="utf-8")
PYTHON
