// Chapter 04: pages. The page table of three requests, drawn; a token looked up; requests that grow, share and leave; what a
// lost last_page_len gives; what a page size costs; layouts. Ends with rung C3, which reads the pages where they lie.
#include <cmath>
#include <numeric>

#include "draw/page_table_picture.hpp"
#include "ladder/agree.hpp"
#include "ladder/cases/files/case_file.hpp"
#include "ladder/cases/specs/short_form.hpp"
#include "walkthroughs/page_server.hpp"
#include "walkthroughs/toy.hpp"

using namespace flashladder;
using namespace flashladder::walkthroughs;
using ladder::Case;

namespace {

constexpr AttentionParams params{.num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 8, .head_dim_vo = 8, .sm_scale = 0.5f};

// The first features of head 0's answer to the first request.
std::string first_row(const ladder::RunResult& run) {
  return text("o = (%s ..)  lse_log2 = %s", row_text(std::span(run.o).first(3), "%.4f").c_str(),
              number_text(run.lse_log2[0], "%.4f").c_str());
}

void the_table(Narrator& n, PageServer& server) {
  n.section("A page table of three requests");
  for (int i = 0; i < 3; ++i) server.pool.add_request();
  server.append({10, 4, 3});
  const HostPageTable host = server.pool.table();
  const PageTable table = host.view();
  n.step("Three requests of 10, 4 and 3 tokens, pages of %d tokens, a pool of %d pages. A request takes pages wherever they "
         "are free; only its last page may be partly filled.", table.page_size, server.pool.num_pages());
  n.block(show_table(server));
  const draw::Caption title{.title = "Three requests and their pages"};
  n.figure("page_table", draw::page_table_picture(table, server.pool.num_pages(), title),
           "The page table: an arrow for each entry of paged_kv_indices");
  n.step("Three arrays say all of it. indptr counts pages, not tokens: request r owns indices[indptr[r]] .. "
         "indices[indptr[r + 1] - 1], in token order. last_page_len says how many tokens lie in the last of them.");
  n.block(index_arrays(server.c));
  n.step("Lengths are not stored: length(0) = (%d pages - 1) * %d + %d = %d.", host.indptr[1], table.page_size,
         host.last_page_len[0], table.length(0));

  const std::int32_t token = 9, logical = token / table.page_size;
  const KvSlot slot = table.locate(0, token);
  n.step("Where is token %d of request 0? Logical page %d / %d = %d, entry %d %% %d = %d. indices[indptr[0] + %d] = "
         "indices[%d] = %d. locate(0, %d) says: page %d, entry %d. The entry is the token's place in its page, and never "
         "changes; the page is wherever the pool had room.", token, token, table.page_size, logical, token, table.page_size,
         token % table.page_size, logical, host.indptr[0] + logical, host.indices[host.indptr[0] + logical], token,
         static_cast<int>(slot.page), slot.entry);
  n.check_that("locate finds page indices[indptr[0] + 9 / 4], entry 9 % 4",
               slot == KvSlot{host.indices[host.indptr[0] + logical], token % table.page_size});
}

void growing(Narrator& n, PageServer& server) {
  n.section("Append");
  const std::int32_t free = server.pool.free_pages();
  const reference::BatchIndicesPositions rows = server.append({1, 1, 1});
  n.step("A decode step: each request gets one token. First the table grows, then the new keys and values are written where "
         "it says. Request 0 had room. Request 1's page was full: a new one is taken. Request 2's page is now full.");
  n.block(show_table(server) + "\n" + index_arrays(server.c));
  n.step("%d page taken, nothing moved. append_paged_kv_cache got three rows and, from get_batch_indices_positions, where "
         "each goes: batch_indices %s, positions %s. Positions count in the grown request: new tokens are its last ones.",
         free - server.pool.free_pages(), show(rows.batch_indices).c_str(), show(rows.positions).c_str());
  n.check_that("one page was taken", free - server.pool.free_pages() == 1);
  n.check_that("positions are the last of each request", rows.positions == std::vector<std::int32_t>{10, 4, 3});
}

void sharing(Narrator& n, PageServer& server) {
  n.section("A shared prefix");
  const PagePool::Fork fork = server.fork(0, 6);
  const PageCopy copy = fork.copy.value();
  n.step("Request %d starts with the first 6 tokens of request 0 (the same system prompt, say). Its full page is shared: "
         "one more user, no copy. Tokens 4 and 5 lie in page %d, where request 0 goes on with a token 6 of its own, so they "
         "get a page of their own: copy %d entries of page %d to page %d.", fork.request, copy.source, copy.entries,
         copy.source, copy.destination);
  server.append({1, 0, 0, 1});
  n.step("Both grow by a token. The shared page can't be hit: it is full, and writes go behind the end.");
  n.block(show_table(server) + "\n" + show_pool(server.pool));
  const HostPageTable host = server.pool.table();
  n.figure("shared_prefix", draw::page_table_picture(host.view(), server.pool.num_pages(), {.title = "A shared prefix"},
           {"request 0", "request 1", "request 2", "request 3"}), "request 3 shares request 0's first page");
  int equal = 0;
  for (int t = 0; t < 6; ++t) equal += server.key(host.view(), 0, t) == server.key(host.view(), 3, t);
  n.check_that("both read the same six keys", equal == 6);
  n.check_that("and differ from token 6 on", server.key(host.view(), 0, 6) != server.key(host.view(), 3, 6));

  const std::int32_t shared = server.pool.pages(0)[0], users = server.pool.uses(shared), free = server.pool.free_pages();
  server.remove(0);
  n.step("Request 0 leaves. Page %d had %d users and has %d: it stays. The other pages of request 0 are free again: %d free "
         "pages before, %d now.", shared, users, server.pool.uses(shared), free, server.pool.free_pages());
  n.block(show_pool(server.pool));
  server.pool.validate();
  n.check_that("the shared page outlives request 0", users == 2 && server.pool.uses(shared) == 1);
  const std::string full = refusal([&] { server.append({0, 40, 0}); });
  n.step("A request that asks for more than there is gets `%s`. Nothing has changed then, and the server decides who waits.",
         full.c_str());
  n.check_that("a full pool refuses", !full.empty() && server.pool.length(2) == 4);
}

void lost_length(Narrator& n, const Case& c) {
  n.section("What a lost last_page_len gives");
  const ladder::RunResult right = run_rung(ladder::rung("C3"), c);
  Case lost = c;
  for (std::int32_t& last : lost.paged_kv_last_page_len) last = lost.spec.page_size;  // "pages are full, roughly"
  const ladder::RunResult poisoned = run_rung(ladder::rung("C3"), lost);
  float* const cache = lost.kv_cache.view().data_as<float>();
  for (std::int64_t i = 0; i < lost.kv_cache.size(); ++i) cache[i] = std::isnan(cache[i]) ? 0.0f : cache[i];
  const ladder::RunResult zeros = run_rung(ladder::rung("C3"), lost);
  n.step("Somebody drops the array and takes every last page for full. The arrays are still valid; nothing can refuse them. "
         "Request 1, head 0, with the right lengths, with too many where unused slots hold NaN, and where they hold 0:");
  n.block("right        " + first_row(right) + "\nlost, NaN    " + first_row(poisoned) + "\nlost, zeros  " +
          first_row(zeros) + "\n");
  n.say("Zero keys have logit 0 and weight 2^(0 - lse): a plausible wrong answer. That is why our tests poison every unused "
        "slot with NaN.");
  n.check_that("NaN in unused slots shows the mistake", std::isnan(poisoned.o[0]) && std::isfinite(right.o[0]));
  n.check_that("zeros hide it", std::isfinite(zeros.o[0]) && std::abs(zeros.o[0] - right.o[0]) > 1e-3f);
  lost.paged_kv_last_page_len[0] = 0;
  const std::string refused = refusal([&] { run_rung(ladder::rung("C3"), lost); });
  n.step("What can be seen is refused, before anything runs: `%s`.", refused.c_str());
  n.check_that("a last_page_len of 0 is refused", !refused.empty());
}

void page_size(Narrator& n) {
  n.section("Which page size?");
  const std::vector<std::int32_t> lengths = ladder::parse_lengths("--kv", "lognormal:64");
  const std::int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0}), slot_bytes = 2 * 8 * 128 * 2;
  const std::int32_t longest = *std::ranges::max_element(lengths);
  std::vector<std::vector<std::string>> rows;
  for (const std::int32_t size : {1, 4, 16, 64, 256, longest}) {
    std::int64_t pages = 0;
    for (const std::int32_t length : lengths) pages += pages_for(length, size);
    const std::int64_t unused = pages * size - tokens;
    const double percent = 100.0 * static_cast<double>(unused) / static_cast<double>(pages * size);
    rows.push_back({text("%d", size), text("%td", pages), text("%.1f", static_cast<double>(pages) * 4 / 1024),
                    text("%.2f", size * 128 * 2 / 1024.0), text("%td", unused),
                    text("%.1f", percent), text("%.1f", static_cast<double>(unused * slot_bytes) / 1048576)});
  }
  n.step("64 requests with %d tokens together, the longest %d. A token takes %d bytes in each layer (8 KV heads, head_dim "
         "128, K and V, 16 bit).", static_cast<int>(tokens), longest, static_cast<int>(slot_bytes));
  n.table({"page size", "pages", "index KiB", "run KiB", "unused slots", "unused %", "unused MiB"}, rows);
  n.say("Small pages waste little and share prefixes finely, but every page is an index to fetch and a jump in memory: run "
        "is what lies together of one head (HND, below). Large pages waste half a page a request. The last row is a cache "
        "without pages: room for the longest, for everybody.");
}

void layouts(Narrator& n) {
  n.section("Layouts");
  const KvSlot slot{5, 1};
  std::vector<std::vector<std::string>> rows;
  const auto add = [&](const char* name, const PagedKvCache& kv) {
    const KvStrides& s = kv.k_strides;
    const bool tokens_together = s.entry == kv.head_dim_qk;
    rows.push_back({name, text("%d", static_cast<int>(s.page)), text("%d", static_cast<int>(s.entry)),
                    text("%d", static_cast<int>(s.head)), text("%d", static_cast<int>(s.offset(slot, 1))),
                    text("%d", tokens_together ? kv.page_size * kv.head_dim_qk : kv.head_dim_qk)});
  };
  std::vector<float> memory(1);  // only its address is looked at
  const auto at = [&](std::initializer_list<std::int64_t> shape) { return contiguous(memory.data(), DType::f32, shape); };
  add("NHD  [12, 4, 2, 8], K and V apart", paged_kv_cache(at({12, 4, 2, 8}), at({12, 4, 2, 8}), KvLayout::NHD));
  add("HND  [12, 2, 4, 8], K and V apart", paged_kv_cache(at({12, 2, 4, 8}), at({12, 2, 4, 8}), KvLayout::HND));
  add("NHD  [12, 2, 4, 2, 8], one tensor", paged_kv_cache(at({12, 2, 4, 2, 8}), KvLayout::NHD));
  add("HND  [12, 2, 2, 4, 8], one tensor", paged_kv_cache(at({12, 2, 2, 4, 8}), KvLayout::HND));
  n.step("Page 5, entry 1, KV head 1 in four caches of 12 pages, 4 tokens, 2 KV heads, head_dim 8. The offset of its key is "
         "page * page stride + entry * entry stride + head * head stride.");
  n.table({"", "page stride", "entry stride", "head stride", "offset", "run of a head"}, rows);
  n.say("NHD: a token's heads lie together, so appending a token is one write. HND: a head's tokens lie together, so a "
        "kernel that reads one head reads a whole page in one run. One tensor or two is only another page stride.");
}

void the_rung(Narrator& n, const Case& c) {
  n.section("The rung: C3");
  n.step("C2 gathers a request's pages into one matrix before it computes. C3 reads tile by tile through locate() instead. "
         "On the requests that are left, with their pages as they lie (indices %s):", show(c.paged_kv_indices).c_str());
  const ladder::RunResult paged = run_rung(ladder::rung("C3"), c), flat = run_rung(ladder::rung("C2"), gathered(c));
  const ladder::Comparison worst = agree(c, paged, &flat, ladder::make_oracle(c));
  n.check("C3 on the shuffled pages equals C2 on gathered ones, o", worst.o.error, worst.o.tolerance);
  n.check("and lse_log2", worst.lse_log2.error, worst.lse_log2.tolerance);
  const Case model = ladder::read_case(FLASHLADDER_SOURCE_ROOT "/data/smollm2_decode.safetensors");
  prove_rung(n, "C3", model, "on a real model's cache");
  n.question("A kernel wants to load 64 tokens at once. With page size 16, how many indices must it read first, and what "
             "must it not read when the request has 50 tokens?");
}

}  // namespace

int main(int argc, char** argv) {
  const Chapter chapter{4, "Pages", "A request's keys may lie anywhere, as long as a table says where."};
  return walk(argc, argv, chapter, [](Narrator& n) {
    PageServer server(12, 4, params);
    the_table(n, server);
    growing(n, server);
    sharing(n, server);
    lost_length(n, server.c);
    page_size(n);
    layouts(n);
    the_rung(n, server.c);
  });
}
