#include "walkthroughs/measured.hpp"

#include <cmath>
#include <fstream>
#include <limits>

#include "core/error.hpp"
#include "ladder/cases/input/json.hpp"

namespace flashladder::walkthroughs {

Measured::Measured(const std::vector<std::string>& files) {
  for (const std::string& file : files) read(file);
}

void Measured::read(const std::string& file) {
  const std::string path = FLASHLADDER_SOURCE_ROOT "/docs/measurements/" + file;
  std::ifstream in(path);
  require(in.good(), "measurements", path, "cannot be read");
  std::string line;
  for (int number = 0; std::getline(in, line); ++number) {
    const std::string place = path + ":" + std::to_string(number + 1);
    const ladder::Json json = ladder::parse_json(line, place, 2);
    require(json.object() != nullptr, "measurements", place, "is no JSON object");
    const auto text_at = [&](const char* key) {
      const ladder::Json* value = json.find(key);
      return value != nullptr && value->text() != nullptr ? *value->text() : std::string();
    };
    const auto number_at = [&](const char* key) {  // 0 also for null: TBps may be that
      const ladder::Json* value = json.find(key);
      return value != nullptr ? value->number().value_or(0) : 0.0;
    };
    if (json.find("gpu") != nullptr) {
      if (!machine_.empty()) continue;  // the same machine's, in another program's words
      machine_ = text_at("gpu") + ", " + text_at("date");
      clocks_per_us_ = number_at("sm_mhz");
    } else if (json.find("us") != nullptr && text_at("family") != "plan") {  // that is host time, of the same cases
      std::string work = text_at("case");
      if (work.ends_with(" p16")) work.resize(work.size() - 4);
      const std::string backend = text_at("backend");
      const std::string name = backend.starts_with("flashladder ") ? backend.substr(12) : backend;
      const double us = number_at("us");
      lines_.push_back({work, name == "read_all" ? "read" : name, us, us * number_at("TBps") * 1e6});
    }
  }
}

template <class Number>
double Measured::mean(const std::string& work, const std::string& backend, Number number) const {
  double sum = 0;
  int count = 0;
  for (const Line& line : lines_) {
    if (line.work == work && line.backend == backend) sum += line.*number, ++count;
  }
  return count > 0 ? sum / count : std::numeric_limits<double>::quiet_NaN();
}

double Measured::us(const std::string& work, const std::string& backend) const { return mean(work, backend, &Line::us); }
double Measured::bytes(const std::string& work, const std::string& backend) const {
  return mean(work, backend, &Line::bytes);
}

void Measured::table(Narrator& n, const std::vector<std::string>& works, const std::vector<std::string>& backends) const {
  std::vector<std::string> header{"us"};
  header.insert(header.end(), backends.begin(), backends.end());
  std::vector<std::vector<std::string>> rows;
  for (const std::string& work : works) {
    rows.push_back({work});
    for (const std::string& backend : backends) {
      const double time = us(work, backend);
      rows.back().push_back(std::isnan(time) ? "-" : text("%.1f", time));
    }
  }
  n.table(header, rows);
}

}  // namespace flashladder::walkthroughs
