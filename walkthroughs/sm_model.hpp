// One SM as an event model: units that serve warp groups, a copy engine with a latency, barriers, and programs that use
// them. A program (a producer, a warp group) is a coroutine that reads like the kernel it stands for. Clocks of a model, to
// see who waits for whom; what a real SM takes is measured, not simulated.
#pragma once

#include <algorithm>
#include <coroutine>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <queue>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "walkthroughs/mbarrier_model.hpp"

namespace flashladder::walkthroughs {

// Begins when it is awaited, or when it is given to SmModel::begin().
class [[nodiscard]] Program {
 public:
  struct promise_type;
  using Handle = std::coroutine_handle<promise_type>;
  struct promise_type {
    std::coroutine_handle<> caller = nullptr;
    struct Return {
      bool await_ready() const noexcept { return false; }
      std::coroutine_handle<> await_suspend(Handle h) const noexcept {
        return h.promise().caller ? h.promise().caller : std::noop_coroutine();
      }
      void await_resume() const noexcept {}
    };
    Program get_return_object() { return Program(Handle::from_promise(*this)); }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    Return final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const noexcept { std::terminate(); }
  };

  explicit Program(Handle handle) : handle_(handle) {}
  Program(Program&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Program& operator=(Program&&) = delete;
  ~Program() {
    if (handle_) handle_.destroy();
  }
  bool ended() const { return handle_.done(); }
  Handle handle() const { return handle_; }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) const noexcept {
    handle_.promise().caller = caller;
    return handle_;
  }
  void await_resume() const noexcept {}

 private:
  Handle handle_;
};

// What a picture shows: `lane` did something about tile `tile` of its work.
enum class Lane { tensor_cores, group_0, group_1, keys, values };
struct LaneBar {
  Lane lane;
  int begin, end, group, tile;
};

struct LaneMark {
  int group, clock, mark;
};

class SmModel {
 public:
  explicit SmModel(int now = 0) : now_(now) {}
  int now() const { return now_; }
  std::vector<LaneBar> bars;
  std::map<std::string, std::string> waiting;  // who waits at a barrier, and for what

  void at(int time, std::function<void()> event) { events_.push({time, order_++, std::move(event)}); }
  void resume_at(int time, std::coroutine_handle<> who) {
    at(time, [who] { who.resume(); });
  }
  void begin(Program program) {
    resume_at(now_, program.handle());
    programs_.push_back(std::move(program));
  }
  // Until nothing happens any more. False: some program has not ended, so that it never will.
  bool run() {
    while (!events_.empty()) {
      const Event event = events_.top();
      events_.pop();
      now_ = event.time;
      event.what();
    }
    return std::ranges::all_of(programs_, &Program::ended);
  }

  auto until(int time) {
    struct Until {
      SmModel& sm;
      int time;
      bool await_ready() const { return time <= sm.now(); }
      void await_suspend(std::coroutine_handle<> who) const { sm.resume_at(time, who); }
      void await_resume() const {}
    };
    return Until{*this, time};
  }

 private:
  struct Event {
    int time, order;
    std::function<void()> what;
    bool operator<(const Event& e) const { return std::tie(time, order) > std::tie(e.time, e.order); }
  };
  std::priority_queue<Event> events_;
  std::deque<Program> programs_;
  int now_ = 0, order_ = 0;
};

// Whom a unit serves when both groups have something for it.
enum class Serves { in_turn, oldest };

// A unit of the SM: one step at a time, `clocks` each. It accepts up to `room` steps of a group ahead; a group with more to
// give waits. `shown` is called with (group, tile, begin, end) of each step.
class Unit {
 public:
  Unit(SmModel& sm, int clocks, int room, Serves serves)
      : sm_(sm), clocks_(clocks), room_(static_cast<std::size_t>(room)), serves_(serves) {}
  std::function<void(int group, int tile, int begin, int end)> shown = [](int, int, int, int) {};

  // Resumes when the group's step is accepted, with its number.
  auto accept(int group, int tile) {
    struct Accept {
      Unit& unit;
      int group, tile;
      bool await_ready() const { return unit.clients_[group].steps.size() < unit.room_; }
      void await_suspend(std::coroutine_handle<> who) const { unit.clients_[group].accepting = who; }
      int await_resume() const { return unit.take(group, tile); }
    };
    return Accept{*this, group, tile};
  }
  // Resumes when the group's steps up to that number are done.
  auto done(int group, int number) {
    struct Done {
      Client& client;
      int number;
      bool await_ready() const { return client.done >= number; }
      void await_suspend(std::coroutine_handle<> who) const { client.awaited = number, client.awaiting = who; }
      void await_resume() const {}
    };
    return Done{clients_[group], number};
  }

 private:
  struct Step {
    int tile, order;
  };
  struct Client {
    std::deque<Step> steps;  // accepted and not done
    int accepted = 0, done = 0, awaited = 0;
    std::coroutine_handle<> accepting = nullptr, awaiting = nullptr;
  };

  int take(int group, int tile) {
    clients_[group].steps.push_back({tile, order_++});
    if (!busy_) busy_ = true, sm_.at(sm_.now(), [this] { serve(); });
    return ++clients_[group].accepted;
  }
  int next() const {
    const auto &a = clients_[0].steps, &b = clients_[1].steps;
    if (a.empty() || b.empty()) return a.empty() ? 1 : 0;
    return serves_ == Serves::oldest ? (a.front().order < b.front().order ? 0 : 1) : 1 - last_;
  }
  void serve() {
    busy_ = !clients_[0].steps.empty() || !clients_[1].steps.empty();
    if (!busy_) return;
    last_ = next();
    sm_.at(sm_.now() + clocks_, [this, group = last_] {
      Client& client = clients_[group];
      shown(group, client.steps.front().tile, sm_.now() - clocks_, sm_.now());
      client.steps.pop_front();
      if (++client.done == client.awaited) sm_.resume_at(sm_.now(), std::exchange(client.awaiting, nullptr));
      if (client.accepting) std::exchange(client.accepting, nullptr).resume();
      sm_.at(sm_.now(), [this] { serve(); });  // behind those who have just waited
    });
  }
  SmModel& sm_;
  int clocks_;
  std::size_t room_;
  Serves serves_;
  Client clients_[2];
  int last_ = 1, order_ = 0;
  bool busy_ = false;
};

// An mbarrier (mbarrier_model.hpp) at which programs wait, and one of the hardware's named barriers, as turns use it: who
// takes waits until somebody has given.
class ModelBarrier {
 public:
  ModelBarrier(SmModel& sm, std::string name, int arrivals) : sm_(sm), name_(std::move(name)), count_{arrivals} {}
  void arrive(int bytes = 0) { count_.arrive(bytes), wake(); }
  void complete(int bytes) { count_.complete(bytes), wake(); }
  void give() { ++given_, wake(); }

  Program wait(std::string who, int parity) {
    sm_.waiting[who] = name_;
    while (!count_.ended(parity)) co_await changed();
    sm_.waiting.erase(who);
  }
  Program take(std::string who) {
    sm_.waiting[who] = name_;
    while (given_ == 0) co_await changed();
    --given_;
    sm_.waiting.erase(who);
  }

 private:
  struct Changed {
    std::vector<std::coroutine_handle<>>& line;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> who) const { line.push_back(who); }
    void await_resume() const {}
  };
  Changed changed() { return {line_}; }
  void wake() {
    for (const auto who : std::exchange(line_, {})) sm_.resume_at(sm_.now(), who);
  }
  SmModel& sm_;
  std::string name_;
  MbarrierModel count_;
  int given_ = 0;
  std::vector<std::coroutine_handle<>> line_;
};

// Brings tiles: each arrives `latency` after it was asked for, and at least `transfer` after the one before.
class CopyEngine {
 public:
  CopyEngine(SmModel& sm, int latency, int transfer) : sm_(sm), latency_(latency), transfer_(transfer) {}
  void copy(ModelBarrier& full, int bytes, Lane lane, int tile) {
    full.arrive(bytes);
    const int asked = sm_.now();
    last_ = std::max(asked + latency_, last_ + transfer_);
    sm_.at(last_, [&full, bytes] { full.complete(bytes); });
    sm_.bars.push_back({lane, asked, last_, 0, tile});
  }

 private:
  SmModel& sm_;
  int latency_, transfer_, last_ = 0;
};

}  // namespace flashladder::walkthroughs
