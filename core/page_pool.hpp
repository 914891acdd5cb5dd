// The host owner of page tables: hands out pages of a pool, lets requests grow, and shares the pages of common prefixes.
//
// A page is shared only when it is full, so nobody ever writes to a page that another request reads: where a forked prefix
// ends inside a page, the new request gets a page of its own and the caller copies the entries. Pages are counted; a page
// returns to the pool with its last user. The pool moves numbers only: keys and values are the caller's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "core/page_table.hpp"

namespace flashladder {

// A page table that owns its arrays; the vectors are what AttentionProblem's spans point to.
struct HostPageTable {
  std::vector<std::int32_t> indptr{0};      // [num_requests + 1]      cumulative count of pages
  std::vector<std::int32_t> indices;        // [indptr[num_requests]]  physical page ids
  std::vector<std::int32_t> last_page_len;  // [num_requests]          1 .. page_size; 0 for a request without pages
  std::int32_t page_size = 1;

  // Valid as long as this object lives and its vectors are left alone.
  PageTable view() const {
    return {indptr.data(), indices.data(), last_page_len.data(), page_size, static_cast<std::int32_t>(last_page_len.size())};
  }
};

// Copy entries 0 .. entries - 1 (all heads, K and V) of page `source` to page `destination`.
struct PageCopy {
  std::int32_t source = 0, destination = 0, entries = 0;
  friend bool operator==(const PageCopy&, const PageCopy&) = default;
};

class PagePool {
 public:
  struct Fork {
    int request = 0;
    std::optional<PageCopy> copy;  // what the caller must copy in its cache before it uses the new request
  };

  // Pages are handed out in the order 0, 1, 2 ..., or with a seed in an order shuffled by it; a freed page is the next one
  // to be used. The same calls give the same pages, everywhere.
  PagePool(std::int32_t num_pages, std::int32_t page_size, std::optional<std::uint64_t> shuffle_seed = {});

  // Every function throws InputError for a request that isn't live, for counts that make no sense, and where the pool has
  // too few free pages. A call that throws has changed nothing.
  int add_request();                                    // an empty request; ids count up and are never used again
  void append(int request, std::int32_t tokens);        // the request grows by so many tokens
  Fork fork(int request, std::int32_t tokens);          // a new request whose first tokens are that one's first tokens
  void remove(int request);

  std::int32_t length(int request) const { return find(request).length; }                    // tokens
  std::span<const std::int32_t> pages(int request) const { return find(request).pages; }     // in token order
  std::int32_t uses(std::int32_t page) const;                                                // requests that hold the page
  std::int32_t num_pages() const { return static_cast<std::int32_t>(uses_.size()); }
  std::int32_t page_size() const { return page_size_; }
  std::int32_t free_pages() const { return static_cast<std::int32_t>(free_.size()); }
  int num_requests() const { return static_cast<int>(requests_.size()); }
  std::vector<int> requests() const;                                                         // live ones, ascending

  HostPageTable table(std::span<const int> requests) const;  // rows in the order asked for
  HostPageTable table() const { return table(requests()); }

  // Throws std::logic_error unless each page is either free or in use, the counts are those of the requests' lists, every
  // length needs just the pages it has, and a shared page is full and at the same place in each of its users.
  void validate() const;

 private:
  struct Request {
    std::vector<std::int32_t> pages;
    std::int32_t length = 0;
  };

  const Request& find(int request) const;
  void require_free(std::int32_t needed, int request, const char* purpose) const;
  std::int32_t take_page();

  std::int32_t page_size_;
  std::vector<std::int32_t> free_;  // a stack: the next page is at the back
  std::vector<std::int32_t> uses_;  // [num_pages]  requests that hold the page; 0 = free
  std::map<int, Request> requests_;
  int next_request_ = 0;

  friend struct PagePoolDamage;  // of the test that shows that validate() sees damage
};

}  // namespace flashladder
