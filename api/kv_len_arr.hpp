// FlashInfer's newer plan() calls say with kv_len_arr how many tokens each request has; page tables say it by last pages.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace flashladder::api {

// Tokens in each request's last page. InputError unless kv_len_arr fills the pages of kv_indptr, the last one at least by one.
void fill_last_page_lens(std::span<const std::int32_t> kv_indptr, std::span<const std::int32_t> kv_len_arr,
                         std::int32_t page_size, std::vector<std::int32_t>& lens);

}  // namespace flashladder::api
