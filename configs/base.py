"""Every option with its default and its meaning. All other configs start from this one and override it.

An option of any run is changed on the command line by its path, for example `--config.optimizer.learning_rate=.05`.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = placeholder(
        str
    )  # name of the run and of its folder under runs/; if not given, the config file's
    config.seed = 0  # initial weights, order of the examples, augmentation, dropout

    config.data = data = ConfigDict()
    data.source = "tfds"  # digits | tfds | idx | cifar | csv | folder | npz: where and in what form the images lie
    data.name = "mnist"  # the data set's name: for tfds its TFDS name, otherwise only a label
    data.path = placeholder(
        str
    )  # folder or file of the data; for tfds its data folder ($TFDS_DATA_DIR if not given)
    data.validation = 0.1  # share (below 1) or number of training images held out where there is no validation set
    data.train = 0  # share (below 1) or number of the training images left to train on, stratified; 0 takes all
    data.drawn = 0  # drawn images of each digit added to the training images of MNIST: imgcls_jax/data/drawn.py
    data.test = 0.2  # the same for the test set, where the source has none of its own
    data.split_seed = (
        0  # seed of these splits: kept apart from `seed`, so that runs of several seeds share them
    )
    data.image_size = (
        0  # folder only: side to which every image is resized when read; 0 keeps what is there
    )
    data.transform = ""  # image operations after scaling to [0, 1], such as "random_crop(4)|flip|normalize(cifar10)"
    data.device_budget = 2_000_000_000  # most bytes of images on a device; where there are more, they stream from disk
    data.cache = (
        "~/.cache/imgcls_jax/data"  # where decoded images are kept, with a checksum; "" keeps none
    )

    config.model = model = ConfigDict()
    model.name = (
        "cnn"  # a name in imgcls_jax.models.MODELS; further keys are that model's own options
    )
    # Weights to start from: a name of `python -m imgcls_jax weights list`, a file of torch, Keras or safetensors, or
    # a run folder. Their preprocessing is used where data.transform says nothing.
    model.pretrained = placeholder(str)
    model.max_parameters = (
        0  # most trainable parameters; a model with more is refused; 0 for no limit
    )

    config.pretrained = pretrained = ConfigDict()
    pretrained.cache = (
        "~/.cache/imgcls_jax/weights"  # where downloaded weights are kept, verified by their hash
    )

    config.train = train = ConfigDict()
    train.epochs = 10  # passes over the training set
    train.batch_size = (
        64  # images per step, over all devices; an epoch leaves out what does not fill a batch
    )
    train.eval_batch_size = 512  # images per step of validation and test, over all devices
    train.precision = (
        "float32"  # float32 | bfloat16: type of activations; parameters are float32 always
    )
    train.label_smoothing = 0.0  # share of the target spread over all classes
    train.monitor = "accuracy"  # accuracy | loss, on validation: picks the checkpoint, stops early, lowers the rate
    train.early_stopping = 0  # epochs without improvement after which training stops; 0 never
    train.steps_per_dispatch = (
        50  # most steps between two looks at progress, signals and loss: as many as take 2 s
    )
    train.average = 0.0  # decay per step of an average of the weights, which is what is validated and kept; 0 none
    train.views = "none"  # none | flip | flip_shift: views of an image over whose logits validation and test average
    train.winograd = (
        True  # on CPUs: 3x3 convolutions by Winograd where that is faster; off takes plain sums
    )
    train.cpu_devices = (
        1  # virtual devices that a CPU is split into; 2 make recurrent and narrow networks faster
    )

    config.adapt = adapt = ConfigDict()
    adapt.trainable = ()  # regular expressions of the parameter paths that train; () for all, with lora the pairs alone
    adapt.last_layers = 0  # so many of the backbone's last layers, as Keras counts them, train too (EfficientNetV2-B0)
    adapt.frozen_statistics = (
        "stored"  # stored | update: batch statistics, and dropout, where nothing trains
    )
    adapt.feature_cache = (
        2_000_000_000  # most bytes of features that are computed once, where that is exact; 0 never
    )
    adapt.feature_folder = (
        "~/.cache/imgcls_jax/features"  # where they are kept for other runs; "" keeps none
    )
    adapt.feature_disk = (
        10_000_000_000  # most bytes kept there; what was used longest ago goes first
    )
    adapt.phases = (
        ConfigDict()
    )  # parts of training with options of their own, by name: imgcls_jax/training/phases.py
    adapt.lora = lora = ConfigDict()
    lora.targets = ()  # regular expressions of the kernels that get a trainable low-rank pair
    lora.rank = 4  # channels between the pair
    lora.alpha = 4.0  # what the pair adds is multiplied by alpha / rank
    lora.full = False  # whether a pair's first kernel is as large as the one beside it; otherwise both are 1x1

    config.objective = (
        ConfigDict()
    )  # what is learned from but labels alone: imgcls_jax/training/objectives.py

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "adam"  # adam | adamw | sgd | momentum | rmsprop | adagrad
    optimizer.learning_rate = 1e-3  # the schedule's peak
    optimizer.weight_decay = (
        0.0  # adamw: decoupled from the gradient; otherwise L2, added to the gradient
    )
    optimizer.decay_vectors = True  # whether biases and the scales of norms decay too
    optimizer.multipliers = ()  # pairs of a pattern of parameter paths and a factor on their learning rate
    optimizer.momentum = 0.9  # momentum only
    optimizer.nesterov = False  # momentum only
    optimizer.beta1 = 0.9  # adam, adamw
    optimizer.beta2 = 0.999  # adam, adamw; rmsprop's decay (torch has .99)
    optimizer.eps = 1e-8  # adam, adamw, rmsprop, adagrad (Keras has 1e-7)
    optimizer.clip_norm = 0.0  # bound on the gradient's global norm; 0 for none
    optimizer.clip_value = 0.0  # bound on every gradient entry; 0 for none

    config.schedule = schedule = ConfigDict()
    schedule.name = "constant"  # constant | cosine | linear | onecycle | step | plateau
    schedule.warmup_epochs = (
        0.0  # linear rise from 0 before any schedule but onecycle, which has its own
    )
    schedule.final = 0.0  # cosine, linear: the last rate, as a share of the peak
    schedule.step_epochs = (30, 60, 80)  # step: epochs at whose start the rate falls
    schedule.factor = 0.1  # step, plateau: what the rate is multiplied by
    schedule.patience = 2  # plateau: epochs without improvement before the rate falls
    schedule.min_rate = 0.0  # plateau: the rate never falls below this
    schedule.peak_at = 0.3  # onecycle: share of training at which the rate peaks
    return config
