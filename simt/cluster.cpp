#include "simt/cluster.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>

#include "simt/machine.hpp"

namespace flashladder::simt {

Thread* current = nullptr;
Cluster* cluster = nullptr;
Index threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr unsigned warp_size = 32;
constexpr int poison_byte = 0xff;  // a NaN in every format: shared memory is not initialised
constexpr unsigned largest_cluster = 16;

// One for each place in a cluster, made when it is first needed.
Fiber* fiber_of(std::size_t number) {
  static std::vector<std::unique_ptr<Fiber>> all;
  while (all.size() <= number) all.push_back(std::make_unique<Fiber>());
  return all[number].get();
}

std::byte* whole_arena() {
  static auto* const memory =
      static_cast<std::byte*>(std::aligned_alloc(Cluster::window, Cluster::window * largest_cluster));
  return memory;
}

}  // namespace

Cluster::Cluster(const LaunchOf& launch, const Order& order)
    : launch_(launch), order_(order), random_(order.seed), arena_(whole_arena()) {
  if (launch.shared_bytes > most_shared_bytes) throw KernelError("a CTA has at most 227 KB of shared memory");
  const unsigned threads = launch.block.x * launch.block.y * launch.block.z;
  for (unsigned rank = 0; rank < launch.cluster; ++rank) {
    auto cta = std::make_unique<Cta>();
    cta->rank = rank, cta->shared = arena_ + rank * window;
    cta->threads.resize(threads);
    cta->warps.resize((threads + warp_size - 1) / warp_size);
    for (unsigned i = 0; i < threads; ++i) {
      Thread& t = cta->threads[i];
      t.fiber = fiber_of(rank * threads + i);
      t.cta = cta.get(), t.warp = &cta->warps[i / warp_size], t.lane = i % warp_size;
      t.index = {i % launch.block.x, i / launch.block.x % launch.block.y, i / launch.block.x / launch.block.y};
      t.warp->lanes.push_back(&t);
    }
    ctas_.push_back(std::move(cta));
  }
}

void Cluster::run(Index first) {
  ready_.clear(), later_.clear(), at_address_.clear(), cluster_waiting_.clear();
  cluster_come_ = cluster_phase_ = live_ = 0;
  for (auto& cta : ctas_) {
    cta->index = {first.x + cta->rank, first.y, first.z};
    std::memset(cta->shared, poison_byte, launch_.shared_bytes);
    cta->live = static_cast<unsigned>(cta->threads.size());
    live_ += cta->live;
    for (Barrier& b : cta->barriers) b = {};
    for (Warp& w : cta->warps) {
      w.live = w.lanes.size() == warp_size ? ~0u : (1u << w.lanes.size()) - 1;
      w.meetings.clear(), w.products.clear(), w.open_products = nullptr;
    }
    for (Thread& t : cta->threads) {
      t.ended = false, t.waits_for = nullptr;
      t.copies.clear(), t.open_copies = nullptr, t.stores.clear();
      t.fiber->start(launch_.kernel);
      ready_.push_back(&t);
    }
  }
  struct Running {
    ~Running() { cluster = nullptr; }
  } const running;
  cluster = this;
  blockDim = launch_.block, gridDim = launch_.grid;
  while (Thread* t = next()) {
    current = t;
    threadIdx = t->index, blockIdx = t->cta->index;
    const bool ended = t->fiber->resume();
    current = nullptr;
    if (ended) end_of(*t);
    if (!failed_.empty()) break;
  }
  while (failed_.empty() && live_ == 0 && !later_.empty()) {  // what nobody waited for
    const auto what = std::move(later_.front());
    later_.pop_front();
    what();
  }
  if (failed_.empty() && live_ > 0) failed_ = "nobody can go on: " + who_waits();
  if (!failed_.empty()) throw KernelError(failed_);
}

// Where nobody can run, the copy engine is what everybody waits for.
Thread* Cluster::next() {
  while (ready_.empty() && !later_.empty()) {
    const auto which = later_.begin() + static_cast<std::ptrdiff_t>(order_.seed == 0 ? 0 : random_() % later_.size());
    const auto what = std::move(*which);
    later_.erase(which);
    what();
  }
  if (ready_.empty()) return nullptr;
  if (order_.seed != 0) std::swap(ready_.front(), ready_[random_() % ready_.size()]);
  Thread* const t = ready_.front();
  ready_.pop_front();
  return t;
}

void Cluster::end_of(Thread& t) {
  while (!t.copies.empty()) run_all(*t.copies.front()), t.copies.pop_front();
  if (t.open_copies) run_all(*t.open_copies);
  run_all(t.stores);
  t.ended = true, --t.cta->live, --live_;
  t.warp->live &= ~(1u << t.lane);
  recheck(*t.warp);
  Barrier& all = t.cta->barriers[0];
  if (all.come > 0 && all.come == t.cta->live) pass(all);
  if (live_ > 0) pass_cluster_if_all_have_come();
}

void Cluster::wait(const char* what) {
  Thread* const me = current;
  me->waits_for = what;
  me->fiber->give_way();
  me->waits_for = nullptr;
}

void Cluster::wake(std::vector<Thread*>& threads) {
  for (Thread* t : threads) wake(t);
  threads.clear();
}

void Cluster::fail(const std::string& what) {
  if (current == nullptr) throw KernelError(what);  // by the copy engine
  if (failed_.empty()) {
    const Index b = current->cta->index, t = current->index;
    failed_ = "block " + std::to_string(b.x) + ", thread " + std::to_string(t.x) + ": " + what;
  }
  while (true) current->fiber->give_way();
}

void Cluster::meet(unsigned mask, const char* what, void* mine, void (*together)(void* const*, unsigned)) {
  Thread* const me = current;
  Warp& warp = *me->warp;
  mask &= warp.live;
  const unsigned bit = 1u << me->lane;
  if ((mask & bit) == 0) fail(std::string(what) + " by a lane that is not in its mask");
  auto at = std::find_if(warp.meetings.begin(), warp.meetings.end(),
                         [&](const Meeting& m) { return (m.mask & warp.live) == mask && (m.here & bit) == 0; });
  if (at == warp.meetings.end()) at = warp.meetings.insert(at, Meeting{.mask = mask, .what = what, .together = together});
  if (at->together != together) fail("the lanes of a warp are at " + std::string(what) + " and at " + at->what);
  at->slots[me->lane] = mine, at->here |= bit;
  if ((at->mask & warp.live) != at->here) return wait(what);
  hold(*at, warp);
}

// By the last to come, or when one ended for whom the others waited.
void Cluster::hold(Meeting& meeting, Warp& warp) {
  const Meeting m = meeting;
  warp.meetings.erase(warp.meetings.begin() + (&meeting - warp.meetings.data()));
  m.together(m.slots, m.here);
  for (unsigned left = m.here; left != 0; left &= left - 1) {
    Thread* const t = warp.lanes[static_cast<std::size_t>(std::countr_zero(left))];
    if (t != current) wake(t);
  }
}

void Cluster::recheck(Warp& warp) {
  for (Meeting& m : warp.meetings) {
    if ((m.mask & warp.live) == m.here) return hold(m, warp);
  }
}

void Cluster::pass(Barrier& b) { b.come = 0, wake(b.waiting); }

// By those whom the running thread has just let go on: what it does behind its arrival may come too late for them.
void Cluster::be_overtaken() {
  if (order_.seed == 0 || current == nullptr) return;
  wake(current);
  wait("nothing");
}

void Cluster::barrier(unsigned number, unsigned threads, bool stay) {
  if (number >= 16) fail("barrier " + std::to_string(number) + ": a CTA has sixteen");
  Cta& cta = *current->cta;
  Barrier& b = cta.barriers[number];
  const unsigned wanted = threads == 0 ? cta.live : threads;
  if (++b.come > wanted) fail("more threads came to barrier " + std::to_string(number) + " than it lets pass");
  if (b.come == wanted) return pass(b), be_overtaken();
  if (!stay) return;
  b.waiting.push_back(current);
  wait(threads == 0 ? "__syncthreads" : "a named barrier");
}

void Cluster::cluster_arrive() {
  current->cluster_phase = cluster_phase_, ++cluster_come_;
  pass_cluster_if_all_have_come();
}
void Cluster::pass_cluster_if_all_have_come() {
  if (cluster_come_ == live_) ++cluster_phase_, cluster_come_ = 0, wake(cluster_waiting_);
}
void Cluster::cluster_wait() {
  if (current->cluster_phase != cluster_phase_) return;
  cluster_waiting_.push_back(current);
  wait("the cluster's barrier");
}

void Cluster::later(std::function<void()> what) {
  if (!order_.late) return what();
  later_.push_back(std::move(what));
}

void Cluster::wait_at(const void* address, const char* what) {
  at_address_.emplace_back(address, current);
  wait(what);
}
void Cluster::wake_at(const void* address) {
  std::erase_if(at_address_, [&](const auto& entry) {
    if (entry.first == address) wake(entry.second);
    return entry.first == address;
  });
  be_overtaken();
}

std::string Cluster::who_waits() const {
  std::map<std::string, unsigned> where;
  for (const auto& cta : ctas_) {
    for (const Thread& t : cta->threads) {
      if (!t.ended) ++where[t.waits_for == nullptr ? "nothing" : t.waits_for];
    }
  }
  std::string text;
  for (const auto& [what, threads] : where) {
    text += (text.empty() ? "" : ", ") + std::to_string(threads) + " threads wait for " + what;
  }
  return text + " (block " + std::to_string(ctas_.front()->index.x) + ")";
}

}  // namespace flashladder::simt
