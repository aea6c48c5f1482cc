"""Every option with its default and its meaning. All other configs start from this one.

An option of any run is changed on the command line by its path, for example
`--config.optimizer.learning_rate=0.05`. This file is written from imgcls_jax/config/options.py by
`imgcls options --format base > configs/base.py`.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = placeholder(str)  # name of the run and of its folder; else the config file's
    config.seed = 0  # initial weights, order of the examples, augmentation, dropout
    # for a trial: share of all images, at least one of each class, in at most 2 epochs; 0 for none
    config.quick = 0.0
    # what is learned from: labels | distill | simclr, with options; {} is labels
    config.objective = ConfigDict()

    config.data = data = ConfigDict()
    # where and in what form the images are: digits | tfds | idx | cifar | csv | folder | npz
    data.source = "tfds"
    data.name = "mnist"  # the data set's TFDS name; otherwise only a label
    data.path = placeholder(str)  # folder or file of the data; of tfds, its $TFDS_DATA_DIR
    # share (below 1) or number of training images held out, if there is no validation set
    data.validation_size = 0.1
    # share (below 1) or number of training images to train on, stratified; 0 takes all
    data.train_size = 0
    data.long_tail = 1.0  # largest class by smallest, exponentially between; 1 keeps all
    data.drawn = 0  # drawn images of each digit added to MNIST's training images
    # share (below 1) or number of images held out for the test, if there is no test set
    data.test_size = 0.2
    # parts of the training images, one of which is the test set instead of another; 0 for none
    data.folds = 0
    data.fold = 0  # which of them, from 0; a study trains every one
    data.split_seed = 0  # seed of these splits, which runs of several seeds share
    data.image_size = 0  # folder: side to which images are resized when read; 0 keeps theirs
    # folder: what image_size does with images that are not square: stretch | crop | pad
    data.fit = "stretch"
    # CSV file of labels to change and images to leave out, as `imgcls audit` writes it
    data.corrections = placeholder(str)
    data.transform = ""  # image operations, as in "random_crop(4)|flip"
    # most bytes of images on a device; if there are more, they stream from disk
    data.device_bytes = 2_000_000_000
    data.cache = "~/.cache/imgcls_jax/data"  # folder of decoded images, with checksums; "" for none

    config.model = model = ConfigDict()
    # cnn | lstm | attention | vgg | fast_cnn | hybrid | resnet20 | se_resnet | simclr | resnet18 |
    # resnet50 | resnet50_keras | googlenet | efficientnet_b0 | efficientnetv2_b0 |
    # efficientnet_lite0 | convnext_tiny; further options are the model's own
    model.name = "cnn"
    # weights to start from: a name of `imgcls weights list`, a file, or a run
    model.pretrained = placeholder(str)
    # most trainable parameters: a model with more is refused; 0 for no limit
    model.max_parameters = 0

    config.pretrained = pretrained = ConfigDict()
    # folder of downloaded weights, verified by hash
    pretrained.cache = "~/.cache/imgcls_jax/weights"

    config.train = train = ConfigDict()
    train.epochs = 10  # passes over the training set
    train.batch_size = 64  # images a step, over all devices; what does not fill a batch is left out
    train.eval_batch_size = 512  # images a step of validation and test, over all devices
    train.precision = "float32"  # type of activations: float32 | bfloat16
    train.label_smoothing = 0.0  # share of the target spread over all classes
    train.class_weights = ""  # "balanced", or by class, as in "cat=2|dog=0.5"; "" for none
    train.focal_gamma = 0.0  # focal loss: usually 2; 0 for none
    train.logit_adjustment = 0.0  # of logits, by the classes' log shares: usually 1; 0 for none
    train.balanced_sampling = 0.0  # 1 has as many images of each class in an epoch; 0 has their own
    # picks the checkpoint, stops early, lowers the rate: loss | accuracy | balanced_accuracy | top5
    train.monitor = "accuracy"
    train.early_stopping = 0  # epochs without improvement after which training stops; 0 never
    train.steps_per_dispatch = 50  # most steps between two looks at progress, signals and loss
    # decay per step of a moving average of the weights, which is validated and kept; 0 for none
    train.ema_decay = 0.0
    # test-time augmentation, views over whose logits evaluation averages: none | flip | flip_shift
    train.tta = "none"
    # besides TensorBoard: mlflow, or package.module:Class of a CLU MetricWriter; "" for none
    train.tracker = ""
    train.winograd = True  # on CPUs: 3x3 convolutions by Winograd if that is faster
    train.cpu_devices = 1  # virtual devices of a CPU; 2 make recurrent and narrow networks faster
    train.parallel = "pmap"  # how a step runs on all devices, to the same bits: pmap | shard_map

    config.adapt = adapt = ConfigDict()
    config.adapt.lora = lora = ConfigDict()
    adapt.trainable = ()  # paths that train; () for all or, beside LoRA and last_layers, none
    adapt.last_layers = 0  # so many of the backbone's last layers train too, as Keras counts them
    # batch statistics, and dropout, of what does not train: stored | update
    adapt.frozen_statistics = "stored"
    # most bytes of features that are computed once, where that is exact; 0 never
    adapt.feature_bytes = 2_000_000_000
    # where they are kept for other runs; "" for nowhere
    adapt.feature_folder = "~/.cache/imgcls_jax/features"
    # most bytes kept there; the least recently used are deleted first
    adapt.feature_disk_bytes = 10_000_000_000
    adapt.phases = ConfigDict()  # parts of training with options of their own, by name
    lora.targets = ()  # patterns of the kernels that get a trainable low-rank pair
    lora.rank = 4  # channels between the pair
    lora.alpha = 4.0  # the pair is multiplied by alpha / rank
    lora.full = False  # whether a pair's first kernel is as large as the one beside it, or 1x1

    config.optimizer = optimizer = ConfigDict()
    # adam | adamw | sgd | rmsprop | adagrad | lion | muon | schedule_free_adamw | sam
    optimizer.name = "adam"
    optimizer.learning_rate = 0.001  # the schedule's peak
    # decoupled in adamw, lion, muon, schedule_free_adamw; otherwise L2
    optimizer.weight_decay = 0.0
    optimizer.decay_vectors = True  # whether biases and scales of norms decay too
    optimizer.multipliers = ()  # pairs: pattern of parameter paths, factor on the rate
    optimizer.momentum = 0.0  # sgd, sam, muon (whose default, at 0, is 0.95)
    optimizer.nesterov = False  # sgd, sam, with momentum
    optimizer.beta1 = 0.9  # adam, adamw, lion, muon, schedule_free_adamw
    optimizer.beta2 = 0.999  # the same; and the decay of rmsprop (torch has 0.99)
    optimizer.eps = 1e-08  # adam, adamw, schedule_free_adamw, rmsprop, adagrad (Keras has 1e-7)
    optimizer.rho = 0.05  # sam: how far it looks around the weights
    optimizer.clip_norm = 0.0  # bound on the gradient's global norm; 0 for none
    optimizer.clip_value = 0.0  # bound on every gradient entry; 0 for none

    config.schedule = schedule = ConfigDict()
    schedule.name = "constant"  # constant | cosine | linear | onecycle | step | plateau
    schedule.warmup_epochs = 0.0  # linear rise from 0; onecycle has its own
    schedule.end_factor = 0.0  # cosine, linear: the last rate, as a share of the peak
    schedule.step_epochs = (30, 60, 80)  # step: epochs at whose start the rate falls
    schedule.factor = 0.1  # step, plateau: what the rate is multiplied by
    schedule.patience = 2  # plateau: epochs without improvement before the rate falls
    schedule.min_rate = 0.0  # plateau: the rate never falls below this
    schedule.pct_start = 0.3  # onecycle: share of training at which the rate peaks
    return config
