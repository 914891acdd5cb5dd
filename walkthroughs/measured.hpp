// The GPU's times, as chapters speak of them: read from the committed lines in docs/measurements, never typed. A chapter
// that quotes them is checked against the file by tests/docs_match.py.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "walkthroughs/narrate.hpp"

namespace flashladder::walkthroughs {

class Measured {
 public:
  // files: under docs/measurements, of one run; first lines are the machine (docs/case_format.md). InputError if unreadable.
  explicit Measured(const std::vector<std::string>& files = {"h200-decode.jsonl"});

  const std::string& machine() const { return machine_; }      // "NVIDIA H200, 2026-11-21"
  double clocks_per_us() const { return clocks_per_us_; }      // of an SM

  // The mean of the file's runs; NaN if it has no such line. "read" is the kernel that reads the same bytes.
  double us(const std::string& work, const std::string& backend) const;
  double bytes(const std::string& work, const std::string& backend) const;  // compulsory ones: time * rate

  // A row a case, a column a backend, times in us; "-" where the file has none.
  void table(Narrator& n, const std::vector<std::string>& works, const std::vector<std::string>& backends) const;

 private:
  void read(const std::string& file);

  struct Line {
    std::string work, backend;
    double us, bytes;
  };
  template <class Number>
  double mean(const std::string& work, const std::string& backend, Number number) const;

  std::string machine_;
  double clocks_per_us_ = 0;
  std::vector<Line> lines_;
};

// What memory gives to one SM while all of them read, in bytes a clock.
inline double bytes_per_clock(double bytes, double us, double clocks_per_us, int num_sms) {
  return bytes / (us * clocks_per_us * num_sms);
}

}  // namespace flashladder::walkthroughs
