#include "simt/copies.hpp"

#include <cstring>

#include "simt/memory.hpp"

namespace flashladder::simt {
namespace {

CopyGroup& open_group() {
  CopyGroup& group = current->open_copies;
  if (group == nullptr) group = std::make_shared<CopyGroup::element_type>();
  return group;
}

}  // namespace

void copy_16(void* shared, const void* global) {
  constexpr std::size_t bytes = 16;
  std::byte* const to = at_shared(shared_address(shared), bytes);
  if (reinterpret_cast<std::uintptr_t>(to) % bytes != 0 || reinterpret_cast<std::uintptr_t>(global) % bytes != 0) {
    cluster->fail("cp.async to or from an address that is not a multiple of 16");
  }
  const auto copy = [to, global] { global == nullptr ? std::memset(to, 0, bytes) : std::memcpy(to, global, bytes); };
  if (!cluster->late()) return copy();
  open_group()->push_back(copy);
}

void commit_copies() {
  current->copies.push_back(open_group());
  current->open_copies = nullptr;
}

void wait_for_copies(std::size_t pending) {
  auto& groups = current->copies;
  for (; groups.size() > pending; groups.pop_front()) run_all(*groups.front());
}

void after_copies(std::function<void()> then) {
  std::vector<CopyGroup> groups(current->copies.begin(), current->copies.end());
  groups.push_back(open_group());
  // The group stays open for copies of the next: those that are in it now are taken along.
  groups.back() = std::make_shared<CopyGroup::element_type>(std::move(*open_group()));
  open_group()->clear();
  cluster->later([groups = std::move(groups), then = std::move(then)] {
    for (const CopyGroup& group : groups) run_all(*group);
    then();
  });
}

}  // namespace flashladder::simt
