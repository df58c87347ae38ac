#!/usr/bin/env bash
# Renders 200 lines in each language, in fonts that fontsource.txt leaves out, and reads them.
#
#   bash experiments/pretrained/languages.sh WORDS FOLDER [MODEL]
#
# WORDS: the folder that words.py wrote. FOLDER: for images and result.md. The fonts are from npm.
set -euo pipefail
words=$1 folder=$2 model=${3:-lines} here=experiments/pretrained
families="literata commissioner piazzolla geologica brygada-1918 roboto-flex sofia-sans mulish"

mkdir -p "$folder/npm" "$folder/fonts"
(cd "$folder/npm" && npm install --ignore-scripts --silent \
  $(for family in $families; do echo "@expo-google-fonts/$family"; done))
find "$folder/npm" -name "*400Regular*.ttf" -o -name "*500Medium.ttf" -o -name "*700Bold.ttf" |
  xargs cp -t "$folder/fonts"
for list in "$words"/*.txt; do
  code=$(basename "$list" .txt)
  python -m crnn_jax.synthesize -o "$folder/$code" --count 200 --seed 99 --max-aspect 40 \
    --heights 32-40 --style $here/lines/languages.json --words "$list" \
    --fonts "$folder/fonts" --table $here/characters.txt
done
python -m crnn_jax.evaluate -m "$model" --no-views -a "$folder"/*/labels.tsv -o "$folder/result.md"
