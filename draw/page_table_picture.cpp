#include "draw/page_table_picture.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "draw/text.hpp"

namespace flashladder::draw {
namespace {

constexpr double page_height = 22, page_pitch = 27, request_gap = 14, label_width = 120, between = 190;
constexpr double widest_page = 190;
constexpr std::int32_t most_entries_drawn_apart = 16;

// A logical page of a request and where it lies.
struct HeldPage {
  std::int32_t request, logical, tokens;  // tokens: how many of its entries are filled
  std::int64_t physical;
};

std::vector<HeldPage> held_pages(const PageTable& table, std::int32_t num_pages) {
  std::vector<HeldPage> held;
  for (std::int32_t r = 0; r < table.num_requests; ++r) {
    std::int32_t logical = 0;
    for (std::int64_t first = 0; first < table.length(r); first += table.page_size) {
      const std::int64_t page = table.locate(r, static_cast<std::int32_t>(first)).page;
      require(page >= 0 && page < num_pages, "paged_kv_indices", page, "must be a page of the pool", r);
      require(held.size() < max_drawn_pages, "page table", held.size() + 1, "must have at most 256 pages to be drawn");
      const auto tokens = static_cast<std::int32_t>(std::min<std::int64_t>(table.page_size, table.length(r) - first));
      held.push_back({r, logical++, tokens, page});
    }
  }
  return held;
}

// One page: its filled entries in the colours of all who hold it (stacked stripes), token numbers where they fit.
void draw_page(Canvas& canvas, Box box, std::int32_t capacity, std::int32_t tokens, const std::vector<Rgb>& owners,
               std::int32_t first_token) {
  const std::int32_t entries = capacity <= most_entries_drawn_apart ? capacity : 1;
  const double entry_width = box.width / entries;
  const double filled = box.width * tokens / capacity;
  canvas.rect(box, {.fill = fog});
  for (std::size_t i = 0; i < owners.size(); ++i) {
    const double height = box.height / static_cast<double>(owners.size());
    canvas.rect({box.x, box.y + static_cast<double>(i) * height, filled, height}, {.fill = owners[i]});
  }
  const bool numbered = entries == capacity && entry_width >= 20;
  for (std::int32_t e = 1; e < entries; ++e) {  // full lines between numbers, else short marks that leave room for words
    const double x = box.x + e * entry_width;
    canvas.line({x, numbered ? box.y : box.bottom() - 5}, {x, box.bottom()}, {.stroke = paper});
  }
  canvas.rect(box, {.stroke = owners.size() > 1 ? ink : muted, .width = owners.size() > 1 ? 2.0 : 1.0});
  if (first_token < 0) return;
  const TextStyle style{.size = 11, .anchor = Anchor::middle, .colour = ink_on(owners.front())};
  if (numbered) {
    for (std::int32_t e = 0; e < tokens; ++e) {
      canvas.text({box.x + (e + 0.5) * entry_width, box.y + 15}, std::to_string(first_token + e), style);
    }
  } else if (const std::string range = std::to_string(first_token) + ".." + std::to_string(first_token + tokens - 1);
             filled >= text_width(range, 11)) {
    canvas.text({box.x + filled / 2, box.y + 14}, range, style);
  }
}

struct Columns {
  double logical_x, physical_x, page_width;
};

// Draws the requests and returns, for each held page, where its arrow starts.
std::vector<Point> draw_requests(Canvas& canvas, const Columns& x, double top, const PageTable& table,
                                 const std::vector<HeldPage>& held, const std::vector<std::string>& names) {
  std::vector<Point> starts;
  double y = top;
  std::size_t next = 0;
  for (std::int32_t r = 0; r < table.num_requests; ++r, y += request_gap) {
    const std::string name = names.empty() ? "request " + std::to_string(r) : names[static_cast<std::size_t>(r)];
    canvas.text({margin, y + 15}, name, {.colour = mix(category(r), ink, 0.3), .bold = true});
    canvas.text({margin, y + 31}, std::to_string(table.length(r)) + " tokens", {.size = 11, .colour = muted});
    if (table.length(r) == 0) canvas.text({x.logical_x, y + 15}, "no pages", {.colour = muted});
    const double y_of_request = y;
    for (; next < held.size() && held[next].request == r; ++next, y += page_pitch) {
      const Box box{x.logical_x, y, x.page_width, page_height};
      const std::int32_t first_token = held[next].logical * table.page_size;
      draw_page(canvas, box, table.page_size, held[next].tokens, {category(r)}, first_token);
      starts.push_back({box.right() + 3, box.centre().y});
    }
    y = std::max(y, y_of_request + 34);
  }
  return starts;
}

struct PoolPage {
  std::vector<Rgb> owners;
  std::int32_t tokens = 0;
};

std::vector<PoolPage> pool_of(const std::vector<HeldPage>& held, std::int32_t num_pages) {
  std::vector<PoolPage> pool(static_cast<std::size_t>(num_pages));
  for (const HeldPage& h : held) {
    PoolPage& page = pool[static_cast<std::size_t>(h.physical)];
    page.owners.push_back(category(h.request));
    page.tokens = std::max(page.tokens, h.tokens);
  }
  return pool;
}

void draw_pool(Canvas& canvas, const Columns& x, double top, const std::vector<PoolPage>& pool, std::int32_t page_size) {
  double y = top;
  for (std::size_t id = 0; id < pool.size(); ++id, y += page_pitch) {
    const Box box{x.physical_x, y, x.page_width, page_height};
    draw_page(canvas, box, page_size, pool[id].tokens, pool[id].owners, -1);
    canvas.text({box.right() + 10, y + 15}, std::to_string(id), {.mono = true});
    const std::size_t holders = pool[id].owners.size();
    const std::string state = holders == 0 ? "free" : holders > 1 ? "shared by " + std::to_string(holders) : "";
    canvas.text({box.right() + 42, y + 15}, state, {.size = 11, .colour = holders > 1 ? ink : muted, .bold = holders > 1});
  }
}

double height_of_requests(const PageTable& table) {
  double height = 0;
  for (std::int32_t r = 0; r < table.num_requests; ++r) {
    height += std::max(34.0, pages_for(table.length(r), table.page_size) * page_pitch) + request_gap;
  }
  return height - request_gap;
}

}  // namespace

Svg page_table_picture(const PageTable& table, std::int32_t num_pages, const Caption& caption,
                       const std::vector<std::string>& request_names) {
  require(num_pages >= 1 && num_pages <= max_drawn_pages, "num_pages", num_pages, "must be 1 .. 256 to be drawn");
  require(request_names.empty() || std::ssize(request_names) == table.num_requests, "request_names", request_names.size(),
          "must be empty or one a request");
  const std::vector<HeldPage> held = held_pages(table, num_pages);

  const double page_width = std::clamp(26.0 * table.page_size, 60.0, widest_page);
  const Columns x{margin + label_width, margin + label_width + page_width + between, page_width};
  const double width = x.physical_x + page_width + 130 + margin;
  Canvas canvas;
  const double top = draw_caption(canvas, caption, width) + 26;
  const double left_height = height_of_requests(table), right_height = num_pages * page_pitch;
  const double tallest = std::max(left_height, right_height);

  canvas.text({x.logical_x, top - 14}, "logical pages (token numbers)", {.colour = muted});
  canvas.text({x.physical_x, top - 14}, "the pool: physical pages", {.colour = muted});
  const std::vector<Point> starts =
      draw_requests(canvas, x, top + (tallest - left_height) / 2, table, held, request_names);
  const double pool_top = top + (tallest - right_height) / 2;
  draw_pool(canvas, x, pool_top, pool_of(held, num_pages), table.page_size);
  for (std::size_t i = 0; i < held.size(); ++i) {
    const Point end{x.physical_x - 3, pool_top + static_cast<double>(held[i].physical) * page_pitch + page_height / 2};
    canvas.arrow(starts[i], end, category(held[i].request), Bend::sideways);
  }
  const double bottom = draw_legend(canvas, {margin, top + tallest + 12}, width - 2 * margin,
                                    {{category(0), "filled, in the request's colour"}, {fog, "unused"}});
  return canvas.finish(width, bottom + margin - 8, caption.title);
}

}  // namespace flashladder::draw
