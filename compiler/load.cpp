#include "compiler/load.h"

#include <llvm/ExecutionEngine/Orc/LLJIT.h>
#include <llvm/Support/MemoryBuffer.h>

#include <utility>

#include "compiler/target.h"

namespace fusebn {

struct LoadedObject::Session {
    std::unique_ptr<llvm::orc::LLJIT> jit;
};

LoadedObject::LoadedObject(const std::string& object) : session_(std::make_unique<Session>()) {
    target_machine(InstructionSet::x86_64);  // registers the target
    auto jit = llvm::orc::LLJITBuilder().create();
    if (!jit) fail("loading an object", jit.takeError());
    session_->jit = std::move(*jit);
    if (auto error = session_->jit->addObjectFile(llvm::MemoryBuffer::getMemBufferCopy(object))) {
        fail("loading an object", std::move(error));
    }
}

LoadedObject::~LoadedObject() = default;
LoadedObject::LoadedObject(LoadedObject&&) noexcept = default;
LoadedObject& LoadedObject::operator=(LoadedObject&&) noexcept = default;

void* LoadedObject::address(const std::string& symbol) const {
    auto found = session_->jit->lookup(symbol);
    if (!found) fail(symbol, found.takeError());
    return found->toPtr<void*>();
}

}  // namespace fusebn
