// Requests and answers go over a pair of sockets. An answer is a head of fixed size, then the message, o and lse_log2.
#include "bench/plugin_host.hpp"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <limits>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "core/error.hpp"
#include "ladder/cases/drawn/draw_case.hpp"

namespace flashladder::bench {
namespace {

using ladder::Case;
using ladder::CaseSpec;
using ladder::ChildRun;
using ladder::Ending;

struct AnswerHead {
  Ending ending;
  bool has_result, guards_intact;
  double milliseconds;
  std::size_t message, o, lse_log2;
};

// false: the other end is gone.
bool write_all(int socket, const void* data, std::size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = send(socket, at, bytes, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n, bytes -= static_cast<std::size_t>(n);
  }
  return true;
}

bool read_all(int socket, void* data, std::size_t bytes) {
  char* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t n = read(socket, at, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n, bytes -= static_cast<std::size_t>(n);
  }
  return true;
}

bool answer(int socket, const ChildRun& run) {
  const ladder::RunResult& r = run.result;
  const AnswerHead head{run.ending, run.has_result, r.guards_intact, r.milliseconds,
                        run.message.size(), r.o.size(), r.lse_log2.size()};
  return write_all(socket, &head, sizeof head) && write_all(socket, run.message.data(), run.message.size()) &&
         write_all(socket, r.o.data(), r.o.size() * sizeof(float)) &&
         write_all(socket, r.lse_log2.data(), r.lse_log2.size() * sizeof(float));
}

std::string refusal(const Plugin& plugin, std::size_t refused, const std::string& first) {
  return plugin.rung.name + " does not take " + std::to_string(refused) + (refused == 1 ? " case" : " cases") +
         ", the first: " + first;
}

double kv_bytes(const CaseSpec& s) {
  return static_cast<double>(s.total_kv()) * s.params.num_kv_heads * (s.params.head_dim_qk + s.params.head_dim_vo) *
         static_cast<double>(size_of(s.cache_dtype()));
}

// What remains of a case that was drawn: a comparison needs its lengths alone.
Case lengths_of(const Case& c) {
  Case lengths;
  lengths.spec = c.spec;
  lengths.qo_indptr = c.qo_indptr;
  return lengths;
}

}  // namespace

PluginHost::PluginHost(std::vector<Plugin> plugins, std::vector<CaseSpec> specs, ladder::TimedRun clock,
                       const ladder::ChildOptions& options)
    : plugins_(std::move(plugins)), specs_(std::move(specs)) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    throw std::system_error(errno, std::generic_category(), "socketpair");
  }
  std::fflush(stdout);
  host_ = fork();
  if (host_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  socket_ = ends[host_ == 0 ? 1 : 0];
  close(ends[host_ == 0 ? 0 : 1]);
  if (host_ == 0) serve(clock, options);
}

PluginHost::~PluginHost() {
  close(socket_);  // ends it, once it has finished what it was asked for last
  waitpid(host_, nullptr, 0);
}

void PluginHost::serve(const ladder::TimedRun& clock, const ladder::ChildOptions& options) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_DFL);
  std::optional<Case> c;
  std::size_t drawn = std::numeric_limits<std::size_t>::max();
  for (Request request{}; read_all(socket_, &request, sizeof request);) {
    ChildRun run;
    try {
      if (drawn != request.spec) c = draw_case(specs_[request.spec]), drawn = request.spec;
      const std::string& path = plugins_[request.plugin].path;
      run = request.time ? time_in_child(path, *c, clock, options) : run_in_child(path, *c, options);
    } catch (const std::exception& e) {
      run.message = e.what();
    }
    if (!answer(socket_, run)) break;
  }
  _exit(0);
}

ChildRun PluginHost::ask(const Request& request) {
  AnswerHead head{};
  ChildRun run;
  bool alive = write_all(socket_, &request, sizeof request) && read_all(socket_, &head, sizeof head);
  if (alive) {
    run.ending = head.ending, run.has_result = head.has_result;
    run.result.milliseconds = head.milliseconds, run.result.guards_intact = head.guards_intact;
    run.message.resize(head.message), run.result.o.resize(head.o), run.result.lse_log2.resize(head.lse_log2);
    alive = read_all(socket_, run.message.data(), head.message) &&
            read_all(socket_, run.result.o.data(), head.o * sizeof(float)) &&
            read_all(socket_, run.result.lse_log2.data(), head.lse_log2 * sizeof(float));
  }
  if (!alive) throw std::runtime_error("the process from which plug-ins are started has ended");
  return run;
}

std::vector<CaseSpec> plugin_cases(Family family, const std::vector<CaseSpec>& specs) {
  const bool timed = family == Family::decode || family == Family::prefill || family == Family::prefill_ladder;
  require(timed, "FAMILY", name_of(family), "times no plug-ins: decode, prefill and prefill-ladder do");
  std::vector<CaseSpec> cases = specs.empty() ? attention_cases(family) : specs;
  std::erase_if(cases, [](const CaseSpec& spec) { return spec.page_size <= 0; });
  return cases;
}

std::vector<TimedWork> plugin_works(Family family, const std::shared_ptr<PluginHost>& host,
                                    const std::vector<std::size_t>& specs, std::vector<std::string>& notes,
                                    const std::function<void(const std::string&)>& say) {
  std::vector<TimedWork> works;
  for (std::size_t p = 0; p < host->plugins().size(); ++p) {
    const Plugin& plugin = host->plugins()[p];
    std::size_t refused = 0;
    std::string first;
    for (const std::size_t s : specs) {
      const CaseSpec& spec = host->specs()[s];
      say("checking " + plugin.rung.name + " on " + spec.name);
      const ChildRun checked = host->check(p, s);
      if (checked.ending == Ending::refused) {
        if (refused++ == 0) first = spec.name + ": " + checked.message;
        continue;
      }
      const Case drawn = draw_case(spec);
      const auto answer = std::make_shared<const PluginAnswer>(drawn, plugin.rung.rounding(spec));
      const auto lengths = std::make_shared<const Case>(lengths_of(drawn));
      const auto wrong = std::make_shared<std::string>();  // of the run that was timed last
      const bool decode = family == Family::decode;
      works.push_back({.line = {.family = name_of(family), .work = spec.name, .backend = plugin.backend()},
                       .bytes = kv_bytes(spec), .flops = decode ? 0 : PrefillCase{spec, false}.flops(),
                       .floor = decode ? Floor::read : Floor::none,
                       .checked = "all equals C4, " + answer->sample() + " equal the double oracle",
                       .failure = answer->why_wrong(*lengths, checked),
                       .time_us = [=] {
                         const ChildRun timed = host->time(p, s);
                         *wrong = answer->why_wrong(*lengths, timed);
                         return 1e3 * timed.result.milliseconds;
                       },
                       .recheck = [=] { return *wrong; }});
    }
    if (refused > 0) notes.push_back(refusal(plugin, refused, first));
  }
  return works;
}

}  // namespace flashladder::bench
