"""The reference run: CRNN on MJSynth (Synth90k), the paper's 32 x 100 grey images.

    python -m crnn_jax.main --config=configs/mjsynth.py \
        --config.data.train=90kDICT32px/annotation_train.txt \
        --config.data.validation=90kDICT32px/annotation_val.txt

Not run on MJSynth itself: the data set was not available. For this network and training set the
paper (arXiv 1507.05717) reports 78.2 % on IIIT5K, 80.8 % on SVT and 86.7 % on ICDAR 2013, without a
lexicon. What was run: 200 steps, batch 16, on 3,000 images in MJSynth's layout made by
`crnn_jax.synthesize`. It works; after 3,200 images nothing is read yet, as usual with CTC.

Every key of every config is declared here; the other configs start from this one and change it.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()

    config.seed = 0  # of initial weights, order of data, augmentation and rendering
    config.epochs = 5.0  # passes over the training data; 0 if `steps` is given
    config.steps = 0  # batches to train on; 0 if `epochs` is given
    config.min_steps = 0  # train at least this many steps, if `epochs` of a small set give fewer
    config.batch_size = 256  # of all devices together; a multiple of their number
    config.parallel = "jit"  # 'jit' (sharded global arrays) or 'pmap', with the same results
    # Model to start from: a model file, a workdir, 'en_36' or 'lines'; 'auto': en_36 if it knows
    # all characters of the labels, else lines. What has no key here (mean, scale, rounding,
    # antialiasing, batch norm's epsilon) is taken from it too.
    config.init_from = ""
    config.freeze = ()  # stages that are not trained: 'cnn', 'bi_lstm1', 'bi_lstm2', 'logits'

    config.model = model = ml_collections.ConfigDict()
    # 'crnn' (8.7 M parameters), 'crnn_small' (2.2 M), 'crnn_residual' (3.7 M) or 'crnn_tiny' (for
    # tests); '': that of init_from, else 'crnn_small'
    model.name = "crnn"
    # frames for w pixels: 'keras' ceil(w / 4) - 1, 'torch' as crnn.pytorch; '': that of init_from,
    # else 'keras'
    model.geometry = ""
    # Of activations: 'float32'; 'bfloat16' for GPUs, TPUs and CPUs that multiply it natively;
    # 'auto': bfloat16 on CPUs where it is faster (AMX, AMD's AVX512_BF16), float32 elsewhere.
    model.dtype = "float32"
    # On CPUs: 'onednn' (native code, compiled on first use), 'xla', or 'auto': onednn if possible.
    model.convolution = "auto"
    model.bn_momentum = 0.99  # of batch norm's running moments; lower for short runs
    model.unroll = 1  # LSTM steps per loop iteration; more compile longer and may run faster

    config.charset = charset = ml_collections.ConfigDict()
    charset.table = "example/table.txt"  # one character a line, in the order of classes; or ''
    charset.characters = ""  # the characters themselves; if both are '': those of the labels
    charset.keep = False  # with the characters of the labels: keep those of init_from too
    charset.ignore_case = True  # convert labels to the table's case, as is usual for MJSynth

    config.preprocessing = preprocessing = ml_collections.ConfigDict()
    preprocessing.channels = 0  # 1 grey, 3 RGB; 0: that of init_from, else 1
    preprocessing.height = 32  # pixels, fixed by the network
    # pixels, every image stretched to it; 0 keeps the aspect ratio (free width); -1: that of
    # init_from, else 0
    preprocessing.width = 100
    # pixels; with free width, narrower images are stretched to it; 0: that of init_from, else 32
    preprocessing.min_width = 0
    # pixels; with free width, wider images are squeezed to it; 0: that of init_from, else 1024, or
    # more if the training images need it
    preprocessing.max_width = 512

    config.data = data = ml_collections.ConfigDict()
    # Annotation files, folders of images, LMDBs or ArrayRecord shards: 'a.txt,lmdb*2' (*2: twice
    # an epoch).
    data.train = "annotation_train.txt"
    data.validation = ""  # the same; '' for none, or for what `split` holds out
    # held out of train: '10%' by hash of the path, '10% by label', '10% by REGEX' (what it finds in
    # the path: 'page_[0-9]+' keeps the lines of a page together), 'k/5' every fifth image
    data.split = "none"
    data.images = ""  # folder that paths are relative to; '': that of the annotation file
    # 'auto', 'mjsynth', 'icdar', 'simple', 'tsv', 'name', 'json', 'csv', 'gt' (see docs/formats.md)
    # or a parser of your own as 'package.module:function'
    data.format = "auto"
    data.unknown = "unusable"  # characters outside the table: 'unusable', 'strip' or 'map' to <UNK>
    # Rendered words added to the training samples, as a share of these, against forgetting.
    data.synthetic_ratio = 0.0
    # pixels, widths of the buckets for free width; (): at most 12 that pad the training images
    # least, one for rendered ones alone
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
    # 'auto': the system's word list; 'builtin': ours; or files, one a language: 'de.txt*2,fr.txt'
    synthetic.words = "auto"
    # 'auto': the system's; folders or files: 'auto,my/fonts'; 'builtin': Pillow's own
    synthetic.fonts = "auto"
    synthetic.count = 1_000_000  # images an epoch; none is repeated
    synthetic.heights = (32, 40)  # pixels, lowest and highest, before resizing
    synthetic.max_aspect = 10.0  # width / height; wider words are squeezed
    synthetic.color = "grey"  # 'grey' or 'rgb'
    synthetic.cache = "auto"  # folder of drawn glyphs; 'auto': the user's cache

    config.optimizer = optimizer = ml_collections.ConfigDict()
    # 'adam', 'adamw', 'muon' (learns more a step, which takes longer) or 'sgd'
    optimizer.name = "adam"
    optimizer.learning_rate = 1e-3  # peak
    optimizer.schedule = "cosine"  # after warm-up: 'cosine', 'linear' or 'constant'
    optimizer.warmup_steps = 0  # steps of linear increase
    optimizer.final_fraction = 0.0  # learning rate at the end, as a fraction of the peak
    optimizer.b1 = 0.9  # Adam's decay of the first moment; SGD's momentum
    optimizer.b2 = 0.999  # Adam's decay of the second moment
    optimizer.weight_decay = 0.0  # adamw only; applied to matrices, not to vectors
    optimizer.clip_norm = 5.0  # global norm to which gradients are clipped; 0 for none
    # Batches per update, gradients averaged; saves memory.
    optimizer.gradient_accumulation_steps = 1
    optimizer.ema_decay = 0.0  # of the moving average of weights that is evaluated; 0 for none
    # Stop after so many steps in a row without a finite gradient; 0: never.
    optimizer.max_nonfinite_steps = 20

    config.evaluation = evaluation = ml_collections.ConfigDict()
    evaluation.every_steps = 5_000  # 0: once an epoch, at most 20 times a run
    evaluation.batch_size = 256  # of all devices together
    evaluation.patience = 0  # stop after so many evaluations without improvement; 0: never

    config.checkpoint = checkpoint = ml_collections.ConfigDict()
    checkpoint.every_steps = 1_000  # the most that a killed run loses
    checkpoint.keep = 2  # of the newest

    config.log = log = ml_collections.ConfigDict()
    log.every_steps = 100  # between rows of metrics.jsonl and progress lines
    log.tensorboard = True  # scalars and images in the workdir's tensorboard/
    log.pictures = 24  # images of each validation set with label and reading; 0 for none
    log.histograms = False  # of all weights, at each evaluation
    log.profile = ()  # steps (from, to) recorded by JAX's profiler: (20, 25)

    config.lock()
    return config
