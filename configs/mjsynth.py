"""The reference run: CRNN on MJSynth (Synth90k), the paper's 32 x 100 grey pictures.

    python -m crnn_jax.main --config=configs/mjsynth.py \
        --config.data.train=90kDICT32px/annotation_train.txt \
        --config.data.validation=90kDICT32px/annotation_val.txt

Not run on MJSynth itself: the data set was not at hand. The paper (arXiv 1507.05717) reports for
this net and training set 78.2 % on IIIT5K, 80.8 % on SVT and 86.7 % on ICDAR 2013 without a
lexicon. What was run is 200 steps, batch 16, on 3,000 pictures in MJSynth's folders made by
`crnn_jax.synthesize`: it runs, and after 3,200 pictures it reads nothing yet, as CTC does.

Every key of every config is declared here; the others start from this one and say what they change.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()

    config.seed = 0  # of everything random: first weights, order of data, augmentation
    config.epochs = 5.0  # passes over the training data; 0 where `steps` says it
    config.steps = 0  # batches to train on; 0 where `epochs` says it
    config.least_steps = 0  # `epochs` of a small set that make fewer steps are raised to these
    config.batch_size = 256  # of all devices together, must divide by their number
    config.parallel = "jit"  # 'jit' (sharded global arrays) or 'pmap': the same numbers
    # Model file, workdir, 'en_36' or 'en_94' whose weights a run starts with; what has no key here
    # (mean, scale, rounding, antialiasing, batch norm's epsilon) is that model's too.
    config.init_from = ""
    config.freeze = ()  # stages that do not train: 'cnn', 'bi_lstm1', 'bi_lstm2', 'logits'

    config.model = model = ml_collections.ConfigDict()
    # 'crnn' 8.7 M parameters, 'crnn_small' 2.2 M, 'crnn_residual' 3.7 M, 'crnn_tiny' for tests;
    # '' init_from's, else 'crnn_small'
    model.name = "crnn"
    # frames of a width: 'keras' ceil(w / 4) - 1, 'torch' as crnn.pytorch; '' init_from's, else
    # 'keras'
    model.geometry = ""
    # Of activations: 'float32', 'bfloat16' for GPU, TPU and CPUs that multiply it, or 'auto': the
    # second on such a CPU, the first elsewhere.
    model.dtype = "float32"
    # How a CPU computes: 'onednn' (compiled on first use), 'xla', or 'auto': the first if possible.
    model.convolution = "auto"
    model.bn_momentum = 0.99  # of batch norm's running moments; lower for runs of few steps
    model.unroll = 1  # LSTM steps a turn of the loop; more compiles longer and may run faster

    config.charset = charset = ml_collections.ConfigDict()
    charset.table = "example/table.txt"  # one character a line, line number its class; or ''
    charset.characters = ""  # the characters themselves; both '': those of the training labels
    charset.ignore_case = True  # labels are folded to the table's case (MJSynth's way)

    config.preprocessing = preprocessing = ml_collections.ConfigDict()
    preprocessing.channels = 0  # 1 grey, 3 RGB; 0 init_from's, else 1
    preprocessing.height = 32  # pixels; what the network takes
    # pixels, every picture stretched to it; 0 keeps the aspect; -1 init_from's, else 0
    preprocessing.width = 100
    # pixels; with free width narrower pictures are stretched; 0 init_from's, else 32
    preprocessing.min_width = 0
    # pixels; with free width wider pictures are squeezed; 0 init_from's, else 1024
    preprocessing.max_width = 512

    config.data = data = ml_collections.ConfigDict()
    # Annotation files, folders of pictures or with an LMDB or ArrayRecord shards: 'a.txt,lmdb*2'
    # (*2: twice an epoch).
    data.train = "annotation_train.txt"
    data.validation = ""  # the same; '' for none, or for the part that `split` takes
    data.split = "none"  # validation out of train: '10%' by hash of the path, 'k/5' every fifth
    data.images = ""  # folder that paths start at; '' for the annotation file's own
    data.format = "auto"  # 'mjsynth', 'icdar', 'simple', 'tsv', 'name' or package.module:function
    data.unknown = "unusable"  # characters outside the table: 'unusable', 'strip' or 'map' to <UNK>
    data.replay = 0.0  # rendered words as a share of the training samples: against forgetting
    data.boundaries = ()  # pixels, bucket widths with free width; () for one shape
    data.max_label_length = 32  # characters; longer labels are not trained on
    data.augment = "none"  # 'none', 'light' or 'strong', of training pictures only
    data.loader = "threads"  # 'threads' or 'tf' (tf.data): the same batches
    data.workers = 0  # processes that decode and resize; 0 for threads of this one
    data.cache = True  # keep the index of annotation files on disk

    config.synthetic = synthetic = ml_collections.ConfigDict()  # for data.train = 'synthetic'
    # 'plain', 'scene' or a JSON file of changes to one; several by their shares: 'a.json*2,scene'
    synthetic.style = "scene"
    # 'auto' the system's list, 'builtin' our own, or files, each a language: 'de.txt*2,fr.txt'
    synthetic.words = "auto"
    synthetic.fonts = "auto"  # folders or files; 'auto' the system's, 'builtin' Pillow's own
    synthetic.count = 1_000_000  # pictures an epoch; no picture comes twice
    synthetic.heights = (32, 40)  # pixels, of the picture before it is resized
    synthetic.max_aspect = 10.0  # width / height; wider words are squeezed
    synthetic.color = "grey"  # 'grey' or 'rgb'
    synthetic.cache = "auto"  # folder of drawn glyphs; 'auto' the user's cache

    config.optimizer = optimizer = ml_collections.ConfigDict()
    optimizer.name = "adam"  # 'adam', 'adamw' or 'sgd'
    optimizer.learning_rate = 1e-3  # the highest
    optimizer.schedule = "cosine"  # after warm-up: 'cosine', 'linear' or 'constant'
    optimizer.warmup_steps = 0  # of linear rise
    optimizer.final_fraction = 0.0  # of the highest learning rate at the end
    optimizer.b1 = 0.9  # Adam's first moment; sgd's momentum
    optimizer.b2 = 0.999  # Adam's second moment
    optimizer.weight_decay = 0.0  # adamw's, on matrices only
    optimizer.clip_norm = 5.0  # global norm that gradients are cut to; 0 for none
    optimizer.accumulate = 1  # batches whose gradients are averaged to one update: saves memory
    optimizer.ema = 0.0  # decay of the average of weights that is evaluated and kept; 0 for none
    optimizer.max_not_finite = 20  # steps in a row without a finite gradient end the run; 0 never

    config.evaluation = evaluation = ml_collections.ConfigDict()
    evaluation.every_steps = 5_000  # 0 for once an epoch, at most 20 times a run
    evaluation.batch_size = 256  # of all devices together
    evaluation.patience = 0  # evaluations without a better one end the run; 0 never

    config.checkpoint = checkpoint = ml_collections.ConfigDict()
    checkpoint.every_steps = 1_000  # what a killed run loses at most
    checkpoint.keep = 2  # newest ones

    config.log = log = ml_collections.ConfigDict()
    log.every_steps = 100  # rows of metrics.jsonl, progress lines
    log.tensorboard = True  # scalars and pictures in the workdir's tensorboard/
    log.pictures = 24  # of each validation set with label and reading, an evaluation; 0 for none
    log.histograms = False  # of all weights at each evaluation
    log.profile = ()  # steps (from, to) that JAX's profiler records: (20, 25)

    config.lock()
    return config
