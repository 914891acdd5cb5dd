#include "core/page_pool.hpp"

#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/error.hpp"

namespace flashladder {
namespace {

constexpr std::int32_t int32_max = std::numeric_limits<std::int32_t>::max();

void require_sound(bool ok, const char* invariant, std::int64_t where) {
  if (!ok) throw std::logic_error("PagePool is damaged: " + std::string(invariant) + " (" + std::to_string(where) + ")");
}

}  // namespace

PagePool::PagePool(std::int32_t num_pages, std::int32_t page_size, std::optional<std::uint64_t> shuffle_seed)
    : page_size_(page_size) {
  require(num_pages >= 0, "num_pages", num_pages, "must not be negative");
  require(page_size >= 1, "page_size", page_size, "must be at least 1");
  uses_.assign(num_pages, 0);
  free_.resize(num_pages);
  for (std::int32_t i = 0; i < num_pages; ++i) free_[i] = num_pages - 1 - i;
  if (!shuffle_seed) return;
  // Fisher and Yates by hand: std::shuffle may give another order with another standard library.
  std::mt19937_64 random(*shuffle_seed);
  for (std::int32_t i = num_pages - 1; i > 0; --i) std::swap(free_[i], free_[random() % (i + 1)]);
}

int PagePool::add_request() {
  requests_[next_request_];
  return next_request_++;
}

void PagePool::append(int request, std::int32_t tokens) {
  const Request& before = find(request);
  require(tokens >= 0, "tokens", tokens, "must not be negative", request);
  require(tokens <= int32_max - before.length, "tokens", tokens, "must keep the request within 2^31 - 1 tokens", request);
  const std::int32_t length = before.length + tokens;
  const std::int32_t needed = pages_for(length, page_size_) - static_cast<std::int32_t>(before.pages.size());
  require_free(needed, request, "append");
  Request& grown = requests_[request];
  grown.pages.reserve(grown.pages.size() + needed);  // nothing below can throw
  for (std::int32_t i = 0; i < needed; ++i) grown.pages.push_back(take_page());
  grown.length = length;
}

PagePool::Fork PagePool::fork(int request, std::int32_t tokens) {
  const Request& parent = find(request);
  require(tokens >= 0, "tokens", tokens, "must not be negative", request);
  require(tokens <= parent.length, "tokens", tokens, "must not exceed the length of the request that is forked", request);
  const std::int32_t touched = pages_for(tokens, page_size_), in_last = last_page_len_for(tokens, page_size_);
  const bool ends_inside = tokens > 0 && in_last < page_size_;
  const std::int32_t shared = touched - (ends_inside ? 1 : 0);
  require_free(ends_inside ? 1 : 0, request, "fork");

  Request child{{parent.pages.begin(), parent.pages.begin() + shared}, tokens};
  child.pages.reserve(touched);
  Fork fork{next_request_, {}};
  auto& placed = requests_[next_request_++] = std::move(child);
  for (std::int32_t page : placed.pages) ++uses_[page];
  if (ends_inside) {
    placed.pages.push_back(take_page());
    fork.copy = PageCopy{parent.pages[shared], placed.pages.back(), in_last};
  }
  return fork;
}

void PagePool::remove(int request) {
  const Request& gone = find(request);
  // From the last page to the first, so that the first is on top of the stack and the next request gets them in order.
  for (auto page = gone.pages.rbegin(); page != gone.pages.rend(); ++page) {
    if (--uses_[*page] == 0) free_.push_back(*page);
  }
  requests_.erase(request);
}

std::int32_t PagePool::uses(std::int32_t page) const {
  require(page >= 0 && page < num_pages(), "page", page, "must be a page of the pool");
  return uses_[page];
}

std::vector<int> PagePool::requests() const {
  std::vector<int> ids;
  ids.reserve(requests_.size());
  for (const auto& [id, request] : requests_) ids.push_back(id);
  return ids;
}

HostPageTable PagePool::table(std::span<const int> requests) const {
  HostPageTable table;
  table.page_size = page_size_;
  std::int64_t total = 0;
  for (int id : requests) {
    const Request& request = find(id);
    total += static_cast<std::int64_t>(request.pages.size());
    require(total <= int32_max, "requests", total, "must not list more than 2^31 - 1 pages in one table", id);
    table.indptr.push_back(static_cast<std::int32_t>(total));
    table.indices.insert(table.indices.end(), request.pages.begin(), request.pages.end());
    table.last_page_len.push_back(last_page_len_for(request.length, page_size_));
  }
  return table;
}

void PagePool::validate() const {
  std::vector<std::int32_t> uses(uses_.size(), 0), place(uses_.size(), -1);
  for (const auto& [id, request] : requests_) {
    const auto pages = static_cast<std::int32_t>(request.pages.size());
    require_sound(pages == pages_for(request.length, page_size_), "a request has not the pages its length needs", id);
    for (std::int32_t i = 0; i < pages; ++i) {
      const std::int32_t page = request.pages[i];
      require_sound(page >= 0 && page < num_pages(), "a request has a page outside the pool", id);
      require_sound(place[page] == -1 || place[page] == i, "a page stands at two places", page);
      place[page] = i;
      ++uses[page];
      const bool full = i + 1 < pages || last_page_len_for(request.length, page_size_) == page_size_;
      require_sound(full || uses_[page] == 1, "a page that is not full is shared", page);
    }
  }
  require_sound(uses == uses_, "the counts differ from the requests' lists", num_pages());
  std::vector<bool> is_free(uses_.size(), false);
  for (std::int32_t page : free_) {
    require_sound(page >= 0 && page < num_pages(), "a page outside the pool is free", page);
    require_sound(!is_free[page], "a page is free twice", page);
    is_free[page] = true;
  }
  for (std::int32_t page = 0; page < num_pages(); ++page) {
    require_sound(is_free[page] == (uses_[page] == 0), "a page is neither free nor counted, or both", page);
  }
}

const PagePool::Request& PagePool::find(int request) const {
  const auto found = requests_.find(request);
  require(found != requests_.end(), "request", request, "must be live: added or forked, and not removed", request);
  return found->second;
}

void PagePool::require_free(std::int32_t needed, int request, const char* purpose) const {
  if (needed <= free_pages()) return;
  throw InputError("pages", std::to_string(needed),
                   std::string("must be at most the free pages of the pool for ") + purpose + " (" +
                       std::to_string(free_pages()) + " of " + std::to_string(num_pages()) + " are free)",
                   request);
}

std::int32_t PagePool::take_page() {
  const std::int32_t page = free_.back();
  free_.pop_back();
  uses_[page] = 1;
  return page;
}

}  // namespace flashladder
