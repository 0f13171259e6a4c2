fusebn_add_library(small-bn SPEC from_spec/small.toml)
