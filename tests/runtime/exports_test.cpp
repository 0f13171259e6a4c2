// What a user's shared library exports: none of the runtime that is linked into it.
#include <gtest/gtest.h>
#include <link.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace fusebn::test {
namespace {

template <class T>
T at(const std::string& bytes, std::size_t offset) {
    T value{};
    if (offset + sizeof(T) > bytes.size()) throw std::runtime_error("the file ends early");
    std::memcpy(&value, bytes.data() + offset, sizeof(T));
    return value;
}

// The dynamic symbols that an ELF file defines.
std::vector<std::string> exports_of(const char* path) {
    std::ifstream in(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    const auto header = at<ElfW(Ehdr)>(bytes, 0);
    const auto section = [&](std::size_t i) { return at<ElfW(Shdr)>(bytes, header.e_shoff + i * header.e_shentsize); };
    std::vector<std::string> names;
    for (std::size_t i = 0; i < header.e_shnum; ++i) {
        const auto symbols = section(i);
        if (symbols.sh_type != SHT_DYNSYM) continue;
        const auto strings = section(symbols.sh_link);
        for (std::size_t offset = 0; offset < symbols.sh_size; offset += symbols.sh_entsize) {
            const auto symbol = at<ElfW(Sym)>(bytes, symbols.sh_offset + offset);
            if (symbol.st_shndx == SHN_UNDEF) continue;
            names.emplace_back(bytes.c_str() + strings.sh_offset + symbol.st_name);
        }
    }
    return names;
}

TEST(Exports, OfAUsersSharedLibraryAreTheUsersOwn) {
    int own = 0;
    for (const std::string& name : exports_of(FUSEBN_TEST_MODULE)) {
        if (name == "users_function") ++own;
        EXPECT_EQ(name.find("fusebn"), std::string::npos) << name;
        EXPECT_EQ(name.find("nlohmann"), std::string::npos) << name;
    }
    EXPECT_EQ(own, 1);
}

}  // namespace
}  // namespace fusebn::test
