fusebn_add_library(small_bn MODEL ../../examples/models/resnet50.onnx)
