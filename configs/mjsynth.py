"""The reference run: CRNN on MJSynth (Synth90k), the paper's 32 x 100 grey images.

    python -m crnn_jax.main --config=configs/mjsynth.py \
        --config.data.train=90kDICT32px/annotation_train.txt \
        --config.data.validation=90kDICT32px/annotation_val.txt

Not run on MJSynth itself: the data set was not available. For this network and training set the
paper (arXiv 1507.05717) reports 78.2 % on IIIT5K, 80.8 % on SVT and 86.7 % on ICDAR 2013, without a
lexicon. The config was tried for 200 steps of batch 16 on 3,000 images in MJSynth's layout, made by
`crnn_jax.synthesize`. It runs; after 3,200 images no word is read yet, as usual with CTC.

This file declares every key of every config; the other configs start from it and override some.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()

    config.seed = 0  # for initial weights, data order, augmentation and rendering
    config.epochs = 5.0  # passes over the training data; 0 if `steps` is given
    config.steps = 0  # batches to train on; 0 if `epochs` is given
    config.min_steps = 0  # train at least this many steps, even if `epochs` are fewer
    config.batch_size = 256  # total over all devices; a multiple of their number
    config.parallel = "jit"  # 'jit' (sharded global arrays) or 'pmap', with the same results
    # Model to start from: a model file, a workdir, 'en_36' or 'lines'; 'auto': en_36 if it knows
    # all characters of the labels, else lines. Settings that have no key here (mean, scale,
    # rounding, antialiasing, batch-norm epsilon) are also taken from it.
    config.init_from = ""
    config.freeze = ()  # stages that are not trained: 'cnn', 'bi_lstm1', 'bi_lstm2', 'logits'

    config.model = model = ml_collections.ConfigDict()
    # 'crnn' (8.7 M parameters), 'crnn_small' (2.2 M), 'crnn_residual' (3.7 M), 'crnn_fine' (1.5 M)
    # or 'crnn_tiny' (for tests); '': that of init_from, else 'crnn_small'
    model.name = "crnn"
    # frames for w pixels: 'keras' and 'fine' give ceil(w / 4) - 1, 'torch' those of crnn.pytorch;
    # '': that of init_from or of model.name
    model.geometry = ""
    # of activations: 'float32'; 'bfloat16' for GPUs, TPUs and CPUs with native bfloat16 products;
    # 'auto': bfloat16 on CPUs where it is faster (AMX, AMD's AVX512_BF16), float32 elsewhere
    model.dtype = "float32"
    # on CPUs: 'onednn' (native code, compiled on first use), 'xla', or 'auto': onednn if possible
    model.convolution = "auto"
    model.bn_momentum = 0.99  # of the batch-norm running moments; lower it for short runs
    model.unroll = 1  # LSTM steps per loop iteration; more take longer to compile, may run faster

    config.charset = charset = ml_collections.ConfigDict()
    charset.table = "example/table.txt"  # file, one character per line in class order; or ''
    charset.characters = ""  # the characters themselves; if both are '': those of the labels
    charset.keep = False  # if the characters are those of the labels: also keep init_from's
    charset.ignore_case = True  # convert labels to the table's case, as is usual for MJSynth

    config.preprocessing = preprocessing = ml_collections.ConfigDict()
    preprocessing.channels = 0  # 1 grey, 3 RGB; 0: that of init_from, else 1
    preprocessing.height = 32  # pixels, fixed by the network
    # pixels to which every image is stretched; 0: free width, keeps the aspect ratio; -1: that of
    # init_from, else 0
    preprocessing.width = 100
    # pixels; with free width, narrower images are stretched to this; 0: that of init_from, else 32
    preprocessing.min_width = 0
    # pixels; with free width, wider images are squeezed to this; 0: that of init_from, else 1024,
    # or more if the training images need it
    preprocessing.max_width = 512

    config.data = data = ml_collections.ConfigDict()
    # annotation files, folders of images, LMDBs or ArrayRecord shards, comma-separated; 'a.txt,b*2'
    # takes b twice per epoch
    data.train = "annotation_train.txt"
    data.validation = ""  # as data.train; '' for none, or for what data.split holds out
    # held out of data.train: '10%' by a hash of the path ('hash' means the same), '10% by label',
    # '10% by REGEX' by its match in the path ('page_[0-9]+' keeps the lines of a page together), or
    # 'k/5', every fifth image
    data.split = "none"
    data.images = ""  # folder that paths are relative to; '': that of the annotation file
    # 'auto', 'mjsynth', 'icdar', 'simple', 'tsv', 'name', 'json', 'csv', 'gt' (see docs/formats.md)
    # or your own parser as 'package.module:function'
    data.format = "auto"
    data.unknown = "unusable"  # characters outside the table: 'unusable', 'strip' or 'map' to <UNK>
    # rendered words to add against forgetting, as a fraction of the number of training samples
    data.synthetic_ratio = 0.0
    # pixels, bucket widths for free width; (): at most 12, chosen for the least padding; one if all
    # training images are rendered
    data.bucket_boundaries = ()
    # characters; longer labels are skipped in training; 0: what the width allows
    data.max_label_length = 32
    data.augment = "none"  # 'none', 'light' or 'strong'; training images only
    data.loader = "threads"  # 'threads' or 'tf' (tf.data), with the same batches
    data.workers = 0  # processes that decode and resize; 0: threads of the main process
    data.cache = True  # cache the index of annotation files on disk

    config.synthetic = synthetic = ml_collections.ConfigDict()  # for data.train = 'synthetic'
    # 'plain', 'scene' or a JSON file that changes one of them; a mixture: 'a.json*2,scene'
    synthetic.style = "scene"
    # 'auto': the system's word list; 'builtin': the package's; or one file per language:
    # 'de.txt*2,fr.txt'
    synthetic.words = "auto"
    # 'auto': the system's; 'builtin': Pillow's own; or folders and files: 'auto,my/fonts'
    synthetic.fonts = "auto"
    synthetic.count = 1_000_000  # images per epoch; none is repeated
    synthetic.heights = (32, 40)  # pixels, minimum and maximum, before resizing
    synthetic.max_aspect = 10.0  # width / height; wider words are squeezed
    synthetic.color = "grey"  # 'grey' or 'rgb'
    synthetic.cache = "auto"  # folder for drawn glyphs; 'auto': the user's cache

    config.optimizer = optimizer = ml_collections.ConfigDict()
    # 'adam', 'adamw', 'muon' (learns more per step, but a step takes longer) or 'sgd'
    optimizer.name = "adam"
    optimizer.learning_rate = 1e-3  # peak
    optimizer.schedule = "cosine"  # after warm-up: 'cosine', 'linear' or 'constant'
    optimizer.warmup_steps = 0  # steps of linear warm-up
    optimizer.final_fraction = 0.0  # learning rate at the end, as a fraction of the peak
    optimizer.b1 = 0.9  # Adam's decay of the first moment; SGD's momentum
    optimizer.b2 = 0.999  # Adam's decay of the second moment
    optimizer.weight_decay = 0.0  # adamw only; applied to matrices, not to vectors
    optimizer.clip_norm = 5.0  # global norm to which gradients are clipped; 0 for none
    # batches per update, with averaged gradients; saves memory
    optimizer.gradient_accumulation_steps = 1
    optimizer.ema_decay = 0.0  # of the moving average of weights, used for evaluation; 0 for none
    # stop after this many consecutive steps without a finite gradient; 0: never
    optimizer.max_nonfinite_steps = 20

    config.evaluation = evaluation = ml_collections.ConfigDict()
    evaluation.every_steps = 5_000  # 0: once per epoch or 20 times; in long runs every 500 steps
    evaluation.batch_size = 256  # total over all devices
    evaluation.patience = 0  # stop after this many evaluations without improvement; 0: never

    config.checkpoint = checkpoint = ml_collections.ConfigDict()
    checkpoint.every_steps = 1_000  # a killed run loses at most this many steps
    checkpoint.keep = 2  # number of newest checkpoints kept

    config.log = log = ml_collections.ConfigDict()
    log.every_steps = 100  # steps between rows of metrics.jsonl and progress lines
    log.tensorboard = True  # write scalars and images to the workdir's tensorboard/
    log.pictures = 24  # images of each validation set to show with label and reading; 0 for none
    log.histograms = False  # of all weights, at each evaluation
    log.profile = ()  # steps (from, to) to record with JAX's profiler: (20, 25)

    config.lock()
    return config
