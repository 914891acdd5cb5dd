// fl_page_pool: a PagePool, and the arrays that its last table was given in.
#include <memory>
#include <optional>

#include "capi/errors.hpp"
#include "capi/structs.hpp"
#include "core/page_pool.hpp"

using namespace flashladder;
using namespace flashladder::capi;

struct fl_page_pool {
  PagePool pool;
  std::vector<std::int32_t> requests;
  HostPageTable table;
};

namespace {
const PagePool& pool_of(const fl_page_pool* pool) { return require_pointer(pool, "pool")->pool; }
}  // namespace

fl_status fl_page_pool_create(std::int32_t num_pages, std::int32_t page_size, const std::uint64_t* shuffle_seed,
                              fl_page_pool** out) {
  return guarded([&] {
    *out_pointer(out) = nullptr;
    const auto seed = shuffle_seed == nullptr ? std::nullopt : std::optional<std::uint64_t>(*shuffle_seed);
    *out = std::make_unique<fl_page_pool>(fl_page_pool{PagePool(num_pages, page_size, seed), {}, {}}).release();
  });
}
void fl_page_pool_destroy(fl_page_pool* pool) { delete pool; }

fl_status fl_page_pool_add_request(fl_page_pool* pool, std::int32_t* request) {
  return guarded([&] {
    out_pointer(request, "request");
    *request = require_pointer(pool, "pool")->pool.add_request();
  });
}
fl_status fl_page_pool_append(fl_page_pool* pool, std::int32_t request, std::int32_t tokens) {
  return guarded([&] { require_pointer(pool, "pool")->pool.append(request, tokens); });
}

fl_status fl_page_pool_fork(fl_page_pool* pool, std::int32_t request, std::int32_t tokens, std::int32_t* forked,
                            fl_page_copy* copy) {
  return guarded([&] {
    out_pointer(forked, "forked");
    size_of_given(copy, "copy");
    const PagePool::Fork fork = require_pointer(pool, "pool")->pool.fork(request, tokens);
    const PageCopy copied = fork.copy.value_or(PageCopy{});
    *forked = fork.request;
    const fl_page_copy what{.size = sizeof(fl_page_copy), .source = copied.source, .destination = copied.destination,
                            .entries = copied.entries, .reserved = 0};
    write(what, copy, "copy");
  });
}
fl_status fl_page_pool_remove(fl_page_pool* pool, std::int32_t request) {
  return guarded([&] { require_pointer(pool, "pool")->pool.remove(request); });
}

fl_status fl_page_pool_length(const fl_page_pool* pool, std::int32_t request, std::int32_t* tokens) {
  return guarded([&] { *out_pointer(tokens, "tokens") = pool_of(pool).length(request); });
}
fl_status fl_page_pool_uses(const fl_page_pool* pool, std::int32_t page, std::int32_t* requests) {
  return guarded([&] { *out_pointer(requests, "requests") = pool_of(pool).uses(page); });
}
fl_status fl_page_pool_free_pages(const fl_page_pool* pool, std::int32_t* pages) {
  return guarded([&] { *out_pointer(pages, "pages") = pool_of(pool).free_pages(); });
}

fl_status fl_page_pool_requests(fl_page_pool* pool, const std::int32_t** requests, std::int32_t* count) {
  return guarded([&] {
    out_pointer(requests, "requests");
    out_pointer(count, "count");
    pool->requests = pool_of(pool).requests();
    *requests = pool->requests.data();
    *count = static_cast<std::int32_t>(pool->requests.size());
  });
}

fl_status fl_page_pool_table(fl_page_pool* pool, const std::int32_t* requests, std::int32_t count, fl_page_lists* out) {
  return guarded([&] {
    size_of_given(out, "out");
    const PagePool& of = pool_of(pool);
    if (requests == nullptr) require(count == 0, "count", count, "must be 0: requests = NULL asks for all of them");
    pool->table = requests == nullptr ? of.table() : of.table(array(requests, count, "requests"));
    const HostPageTable& table = pool->table;
    const fl_page_lists lists{.size = sizeof(fl_page_lists), .indptr = table.indptr.data(), .indices = table.indices.data(),
                              .last_page_len = table.last_page_len.data(),
                              .num_indices = static_cast<std::int64_t>(table.indices.size()),
                              .batch = static_cast<std::int32_t>(table.last_page_len.size()), .reserved = 0};
    write(lists, out, "out");
  });
}
