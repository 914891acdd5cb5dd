#include "simt/machine.hpp"

#include <cstdlib>
#include <string_view>

namespace flashladder::simt {

int multiprocessors() {
  const char* const said = std::getenv("FLASHLADDER_SIMULATED_SMS");
  const int number = said == nullptr ? 0 : std::atoi(said);
  return number > 0 ? number : 32;
}

Order order() {
  const char* const said = std::getenv("FLASHLADDER_SIMULATED_ORDER");
  const std::string_view text = said == nullptr ? "" : said;
  Order order{.late = text.starts_with("late")};
  if (const auto colon = text.find(':'); colon != text.npos) order.seed = static_cast<unsigned>(std::atoi(said + colon + 1));
  return order;
}

}  // namespace flashladder::simt
