fusebn_add_library(small_bn from_spec/small.toml)
