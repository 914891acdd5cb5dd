#include "api/kv_len_arr.hpp"

#include "core/error.hpp"
#include "core/page_table.hpp"

namespace flashladder::api {

void fill_last_page_lens(std::span<const std::int32_t> kv_indptr, std::span<const std::int32_t> kv_len_arr,
                         std::int32_t page_size, std::vector<std::int32_t>& lens) {
  require(kv_indptr.size() == kv_len_arr.size() + 1, "kv_indptr size", kv_indptr.size(), "must be that of kv_len_arr + 1");
  lens.resize(kv_len_arr.size());
  for (std::size_t b = 0; b < lens.size(); ++b) {
    const std::int64_t request = static_cast<std::int64_t>(b), pages = std::int64_t{kv_indptr[b + 1]} - kv_indptr[b];
    require(kv_len_arr[b] >= 0, "kv_len_arr", kv_len_arr[b], "must be 0 or more", request);
    require(pages == pages_for(kv_len_arr[b], page_size), "kv_len_arr", kv_len_arr[b],
            "must fill the request's pages, kv_indptr[request + 1] - kv_indptr[request], the last one at least by one token",
            request);
    lens[b] = last_page_len_for(kv_len_arr[b], page_size);
  }
}

}  // namespace flashladder::api
