#!/usr/bin/env bash
# Trains `en_36`, the model that ships: eight trainings, each from the weights of the one before.
#
#   bash experiments/pretrained/train.sh VALIDATION [FOLDER]
#
# VALIDATION: annotation files, joined by commas; the best step on them is what goes on. FOLDER:
# runs/en_36 unless given. A run that was killed goes on; one that is finished is not run again.
# Needs the fonts of fonts.txt and fontsource.txt, wordfreq 3.1.1, and Debian's wamerican.
set -euo pipefail
validation=$1 folder=${2:-runs/en_36}
here=experiments/pretrained
mkdir -p "$folder"

# run NAME FROM STYLE SEED BATCH STEPS RATE [more flags]
run() {
  python -m crnn_jax.main --config=configs/synthetic.py --workdir="$folder/$1" \
    --config.init_from="$2" --config.synthetic.style="$3" --config.seed="$4" \
    --config.batch_size="$5" --config.steps="$6" --config.optimizer.learning_rate="$7" \
    --config.checkpoint.every_steps=250 --config.data.validation="$validation" "${@:8}"
}

run first "" scene 0 32 7000 1e-3
run second "$folder/first" $here/second.json 1 64 7000 7e-4
run third "$folder/second" $here/third.json 2 64 8000 6e-4
run fourth "$folder/third" $here/fourth.json 4 64 6000 5e-4
run fifth "$folder/fourth" $here/fifth.json 5 64 8000 5e-4
run sixth "$folder/fifth" $here/sixth.json 6 64 5500 5e-4
python $here/ship.py "$folder/sixth" "$folder/small.safetensors" --no-views \
  --average "$folder/fourth*0.2" "$folder/fifth*0.3"

# From here on with residual pairs, other fonts and words.
python $here/fontsource.py "$folder/fontsource"
python $here/words.py en -o "$folder/words.txt"
python $here/grow.py "$folder/small.safetensors" crnn_residual --min_width 64 \
  -o "$folder/grown.safetensors"
more=(--config.model.name=crnn_residual --config.model.dtype=bfloat16
  --config.synthetic.words="$folder/words.txt"
  --config.synthetic.fonts="auto,$folder/fontsource"
  --config.data.bucket_boundaries="(64,80,96,112,128,160,208,256)")
run seventh "$folder/grown.safetensors" $here/seventh.json 7 64 19000 8e-4 \
  --config.optimizer.warmup_steps=300 "${more[@]}"
python $here/ship.py "$folder/seventh" "$folder/average.safetensors" --last 0.47 \
  --average "$folder/grown.safetensors*0.25"
run eighth "$folder/average.safetensors" $here/eighth.json 8 192 8600 1.2e-3 \
  --config.optimizer.name=muon "${more[@]}"
python $here/ship.py "$folder/eighth" "$folder/en_36.safetensors" --last 0.85 \
  --average "$folder/average.safetensors*0.15"
