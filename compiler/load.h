// A CPU kernel's object in this process, as a linker would have put it there.
#pragma once

#include <memory>
#include <string>

namespace fusebn {

class LoadedObject {
public:
    // Throws std::runtime_error where `object` is none that this machine can run.
    explicit LoadedObject(const std::string& object);
    ~LoadedObject();
    LoadedObject(LoadedObject&&) noexcept;
    LoadedObject& operator=(LoadedObject&&) noexcept;

    // Of a function that the object defines, while this lives. Throws std::runtime_error where it does not.
    void* address(const std::string& symbol) const;

private:
    struct Session;
    std::unique_ptr<Session> session_;
};

}  // namespace fusebn
