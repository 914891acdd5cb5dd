// A page table, drawn: on the left each request's logical pages in token order, on the right the pool of physical pages,
// and an arrow for every entry of paged_kv_indices. Unfilled places of last pages stay empty; a page that several
// requests hold (a shared prefix) carries all their colours.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/page_table.hpp"
#include "draw/figure.hpp"

namespace flashladder::draw {

inline constexpr std::int32_t max_drawn_pages = 256;

// table: host pointers, a valid table whose page ids are below num_pages, the size of the pool (checked: InputError).
// request_names: empty, or one a request.
Svg page_table_picture(const PageTable& table, std::int32_t num_pages, const Caption& caption = {},
                       const std::vector<std::string>& request_names = {});

}  // namespace flashladder::draw
