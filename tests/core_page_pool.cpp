// PagePool against a model that knows no pages: a request is the list of its tokens. A toy cache of one number per slot
// shows that nobody's tokens are overwritten, moved or lost, whatever is appended, forked and removed.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/page_pool.hpp"
#include "tests/refusal.hpp"

namespace flashladder {
struct PagePoolDamage {  // a friend of the pool
  PagePool& pool;
  std::vector<std::int32_t>& free() { return pool.free_; }
  std::vector<std::int32_t>& uses() { return pool.uses_; }
  std::vector<std::int32_t>& pages(int request) { return pool.requests_.at(request).pages; }
  std::int32_t& length(int request) { return pool.requests_.at(request).length; }
};
}  // namespace flashladder

using namespace flashladder;
using flashladder::test::refusal;

namespace {

bool same_table(const HostPageTable& a, const HostPageTable& b) {
  return a.indptr == b.indptr && a.indices == b.indices && a.last_page_len == b.last_page_len && a.page_size == b.page_size;
}

// A pool, a cache that holds a token's number in its slot, and what each request should read.
struct Served {
  PagePool pool;
  std::vector<int> cache;
  std::map<int, std::vector<int>> expected;
  int next_token = 0;

  Served(int num_pages, int page_size, std::optional<std::uint64_t> seed)
      : pool(num_pages, page_size, seed), cache(num_pages * page_size, -1) {}

  int& slot(const PageTable& table, int row, int token) {
    const KvSlot s = table.locate(row, token);
    return cache[s.page * pool.page_size() + s.entry];
  }

  void add() { expected[pool.add_request()]; }

  void append(int request, int tokens) {
    const int before = pool.length(request);
    pool.append(request, tokens);
    const int only[] = {request};
    const HostPageTable table = pool.table(only);
    for (int t = before; t < before + tokens; ++t) {
      slot(table.view(), 0, t) = next_token;
      expected[request].push_back(next_token++);
    }
  }

  void fork(int request, int tokens) {
    const auto [child, copy] = pool.fork(request, tokens);
    const auto& parent = expected[request];
    expected[child] = {parent.begin(), parent.begin() + tokens};
    if (!copy) return;
    const auto entry = cache.begin();
    std::copy_n(entry + copy->source * pool.page_size(), copy->entries, entry + copy->destination * pool.page_size());
  }

  void remove(int request) {
    pool.remove(request);
    expected.erase(request);
  }

  bool reads_as_expected() {
    const HostPageTable table = pool.table();
    const PageTable view = table.view();
    if (view.num_requests != static_cast<int>(expected.size())) return false;
    int row = 0;
    for (const auto& [request, tokens] : expected) {
      if (view.length(row) != static_cast<int>(tokens.size()) || pool.length(request) != view.length(row)) return false;
      for (int t = 0; t < view.length(row); ++t) {
        if (slot(view, row, t) != tokens[t]) return false;
      }
      ++row;
    }
    return true;
  }
};

// One random call. Returns false if the pool refused it for want of pages.
bool random_call(Served& s, std::mt19937& random) {
  const std::vector<int> live = s.pool.requests();
  const unsigned what = random() % 10;
  if (live.empty() || (what == 0 && live.size() < 40)) return s.add(), true;
  const int request = live[random() % live.size()];
  try {
    if (what <= 5) s.append(request, random() % 8);
    else if (what <= 7) s.fork(request, random() % (s.pool.length(request) + 1));
    else s.remove(request);
  } catch (const InputError& e) {
    CHECK(e.argument == "pages");
    CHECK(e.request == request);
    return false;
  }
  return true;
}

}  // namespace

TEST_CASE("PagePool: ten thousand random calls against a model") {
  std::mt19937 random(2024);
  int refusals = 0;
  for (int page_size : {1, 3, 4, 16}) {
    CAPTURE(page_size);
    Served s(240 / page_size, page_size, page_size == 4 ? std::optional<std::uint64_t>{} : 99);
    for (int n = 0; n < 2500; ++n) {
      const HostPageTable table = s.pool.table();
      const std::int32_t free = s.pool.free_pages();
      if (!random_call(s, random)) {  // exhausted: nothing has changed
        ++refusals;
        REQUIRE(same_table(s.pool.table(), table));
        REQUIRE(s.pool.free_pages() == free);
      }
      REQUIRE_NOTHROW(s.pool.validate());
      REQUIRE(s.reads_as_expected());
    }
    for (int request : s.pool.requests()) s.remove(request);
    CHECK(s.pool.free_pages() == s.pool.num_pages());
  }
  CHECK(refusals > 100);
}

TEST_CASE("PagePool: a fork shares full pages and copies the rest") {
  PagePool pool(6, 4);
  const int parent = pool.add_request();
  pool.append(parent, 10);  // pages 0, 1, 2; the last holds two
  const auto inside = pool.fork(parent, 6);
  CHECK(inside.copy == PageCopy{1, 3, 2});
  CHECK(pool.length(inside.request) == 6);
  CHECK(std::vector(pool.pages(inside.request).begin(), pool.pages(inside.request).end()) == std::vector{0, 3});
  CHECK(pool.uses(0) == 2);
  CHECK(pool.uses(1) == 1);
  const auto boundary = pool.fork(parent, 8);
  CHECK_FALSE(boundary.copy.has_value());
  CHECK(pool.free_pages() == 2);
  const auto nothing = pool.fork(parent, 0);
  CHECK(pool.pages(nothing.request).empty());
  const auto all = pool.fork(parent, 10);  // the parent's own last page stays its own
  CHECK(all.copy == PageCopy{2, 4, 2});
  pool.remove(parent);
  CHECK(pool.uses(0) == 3);
  CHECK(pool.uses(2) == 0);
  pool.validate();
}

TEST_CASE("PagePool: the table has the rows asked for in their order") {
  PagePool pool(8, 4);
  const int a = pool.add_request(), b = pool.add_request(), c = pool.add_request();
  pool.append(a, 5);
  pool.append(c, 4);
  const int rows[] = {c, b, a, c};
  const HostPageTable table = pool.table(rows);
  CHECK(table.indptr == std::vector{0, 1, 1, 3, 4});
  CHECK(table.indices == std::vector{2, 0, 1, 2});
  CHECK(table.last_page_len == std::vector{4, 0, 1, 4});
  CHECK(table.view().length(2) == 5);
  CHECK(pool.table().indptr == std::vector{0, 2, 2, 3});
  CHECK(PagePool(0, 1).table().view().num_requests == 0);
}

TEST_CASE("PagePool: a seed shuffles the pages and the same seed shuffles them alike") {
  const auto pages = [](std::optional<std::uint64_t> seed) {
    PagePool pool(100, 2, seed);
    pool.append(pool.add_request(), 200);
    return pool.table().indices;
  };
  std::vector<std::int32_t> in_order = pages({}), shuffled = pages(1);
  CHECK(std::ranges::is_sorted(in_order));
  CHECK(shuffled == pages(1));
  CHECK(shuffled != pages(2));
  CHECK(shuffled != in_order);
  std::ranges::sort(shuffled);
  CHECK(shuffled == in_order);
}

TEST_CASE("PagePool: refusals name what was asked and what is there") {
  PagePool pool(3, 4);
  const int a = pool.add_request();
  pool.append(a, 5);
  CHECK(refusal([&] { pool.append(a, 8); }) ==
        "pages = 2 (request 0): must be at most the free pages of the pool for append (1 of 3 are free)");
  CHECK(refusal([&] { pool.append(a, -1); }).starts_with("tokens = -1 (request 0)"));
  CHECK(refusal([&] { pool.append(a, 2147483647); }).starts_with("tokens = 2147483647 (request 0)"));
  CHECK(refusal([&] { pool.fork(a, 6); }).starts_with("tokens = 6 (request 0)"));
  CHECK(refusal([&] { pool.length(7); }).starts_with("request = 7"));
  CHECK(refusal([&] { pool.remove(-1); }).starts_with("request = -1"));
  CHECK(refusal([&] { pool.uses(3); }).starts_with("page = 3"));
  CHECK(refusal([&] { PagePool(-1, 4); }).starts_with("num_pages = -1"));
  CHECK(refusal([&] { PagePool(1, 0); }).starts_with("page_size = 0"));
  pool.append(a, 4);
  CHECK(refusal([&] { pool.fork(a, 3); }).starts_with("pages = 1 (request 0)"));
  CHECK(pool.fork(a, 8).request == 1);  // on a page boundary: needs no page, and the failed fork used up no id
  pool.remove(a);
  CHECK(refusal([&] { pool.append(a, 1); }).starts_with("request = 0"));
}

TEST_CASE("PagePool: validate sees damage") {
  const auto damaged = [](auto damage) -> std::string {
    PagePool pool(8, 4);
    const int parent = pool.add_request();
    pool.append(parent, 10);  // pages 0, 1, 2
    pool.fork(parent, 4);     // page 0
    pool.validate();
    damage(PagePoolDamage{pool});
    try {
      pool.validate();
    } catch (const std::logic_error& e) {
      return e.what();
    }
    return "unseen";
  };
  const auto says = [](const std::string& message, const char* part) { return message.find(part) != std::string::npos; };
  CHECK(says(damaged([](PagePoolDamage d) { d.free().push_back(1); }), "neither free nor counted"));
  CHECK(says(damaged([](PagePoolDamage d) { d.free().pop_back(); }), "neither free nor counted"));
  CHECK(says(damaged([](PagePoolDamage d) { d.free().push_back(d.free()[0]); }), "free twice"));
  CHECK(says(damaged([](PagePoolDamage d) { d.free()[0] = 8; }), "outside the pool is free"));
  CHECK(says(damaged([](PagePoolDamage d) { d.uses()[0] = 1; }), "counts differ"));
  CHECK(says(damaged([](PagePoolDamage d) { d.length(0) = 13; }), "not the pages its length needs"));
  CHECK(says(damaged([](PagePoolDamage d) { d.length(1) = 3; }), "not full is shared"));
  CHECK(says(damaged([](PagePoolDamage d) { d.pages(0)[1] = 0; }), "at two places"));
  CHECK(says(damaged([](PagePoolDamage d) { d.pages(0)[1] = 99; }), "outside the pool"));
}
