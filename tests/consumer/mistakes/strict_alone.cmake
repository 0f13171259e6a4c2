fusebn_add_library(small_bn SPEC from_spec/small.toml STRICT)
