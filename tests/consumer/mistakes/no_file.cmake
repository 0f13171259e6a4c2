fusebn_add_library(small_bn SPEC missing.toml)
