// Text from elsewhere: numbers in the one form that every reader takes, what is printed of hostile text, and JSON that is
// more, less or other than JSON.
#include <limits>

#include "core/text.hpp"
#include "ladder/cases/input/json.hpp"
#include "ladder/cases/input/text.hpp"
#include "tests/cases_helpers.hpp"

using namespace flashladder;
using namespace flashladder::ladder;
using namespace flashladder::ladder::test;

TEST_CASE("numbers: decimal and whole and within the type or none") {
  CHECK(number_from<std::int32_t>("-2147483648") == std::numeric_limits<std::int32_t>::min());
  CHECK(number_from<std::uint64_t>("18446744073709551615") == std::numeric_limits<std::uint64_t>::max());
  CHECK(number_from<std::int32_t>("0") == 0);
  CHECK(number_from<float>("1.25e-3") == 0.00125f);
  CHECK(number_from<float>("1.2e-38") == 1.2e-38f);
  CHECK(number_from<float>("0.0") == 0.0f);
  for (const char* text : {"", " 1", "1 ", "+1", "010", "-01", "0x10", "1e3", "1.0", "1,0", "--1", "2147483648", "1\n"}) {
    CAPTURE(text);
    CHECK_FALSE(number_from<std::int32_t>(text));
  }
  CHECK_FALSE(number_from<std::int32_t>(std::string_view("1\0", 2)));
  CHECK_FALSE(number_from<std::uint64_t>("-1"));
  CHECK_FALSE(number_from<std::uint64_t>("18446744073709551616"));
  for (const char* text : {"1e-46", "1e-40", "1e-400", "1e39", "1e400", "inf", "nan", "0x1p3", "00.5", "+1", "1e"}) {
    CAPTURE(text);
    CHECK_FALSE(number_from<float>(text));
  }
  CHECK_FALSE(number_from<double>("1e-320"));
}

TEST_CASE("printable: one line and no control character and no broken UTF-8") {
  CHECK(printable("plain \u00e9 \u20ac \U0001f600 text") == "plain \u00e9 \u20ac \U0001f600 text");
  CHECK(printable("a\x1b[2J\nb\tc\r\x7f") == "a\\x1b[2J\\nb\\tc\\r\\x7f");
  CHECK(printable(std::string_view("\0", 1)) == "\\x00");
  CHECK(printable("\xff\xc3") == "\\xff\\xc3");                        // a stray byte, half a character
  CHECK(printable("\xc0\x9b") == "\\xc0\\x9b");                        // ESC in an overlong form
  CHECK(printable("\xe0\x82\x80") == "\\xe0\\x82\\x80");              // three bytes for what takes two
  CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");              // a surrogate
  CHECK(printable("\u009b31m \u2028 \u202e \u2066") == "\\u009b31m \\u2028 \\u202e \\u2066");  // C1, separators, bidi
  CHECK(columns_of("\u20ac5") == 2);
  const std::string cut = shown(std::string(79, 'a') + "\u20ac" + std::string(50, 'b'));  // 80 bytes end in the euro sign
  CHECK(cut == "\"" + std::string(79, 'a') + "...\"");
}

TEST_CASE("JSON: what strangers send is refused or is what they meant") {
  const auto refused = [](std::string_view text) { return refusal([&] { parse_json(text, "t", 3); }); };
  CHECK(parse_json(" [1, 2.5, \"\\u001b\", null, true, {\"a\": -3}] \n", "t", 3) ==
        Json(Json::List{1, 2.5, "\x1b", nullptr, true, Json::Object{{"a", -3}}}));
  check_refused(refused(std::string_view("[1]\0[2]", 7)), {"t:", "byte 3 is NUL"});
  check_refused(refused(std::string_view("[1]\0", 4)), {"NUL"});
  check_refused(refused("[1] 2"), {"not valid JSON"});
  check_refused(refused("[1] // two"), {"not valid JSON"});
  check_refused(refused("[01]"), {"not valid JSON"});
  check_refused(refused("[1e-400]"), {"\"1e-400\"", "too small"});
  check_refused(refused("[1e999]"), {"t"});
  check_refused(refused("[\"\x1b[2J\"]"), {"not valid JSON", "U+001B"});
  check_refused(refused("[\"\xff\"]"), {"not valid JSON"});
  CHECK_FALSE(contains(refused("[\"\xff\x1b\"]"), "\x1b"));
  check_refused(refused("{\"a\\u001b\": 1, \"a\\u001b\": 2}"), {"\"a\\x1b\"", "twice"});
  check_refused(refused("[[[[1]]]]"), {"nested deeper than 3"});
  CHECK(parse_json("[18446744073709551615]", "t", 1).list()->at(0).integer<std::uint64_t>() == 18446744073709551615u);
  CHECK_FALSE(parse_json("[18446744073709551616]", "t", 1).list()->at(0).integer<std::uint64_t>());
  CHECK_FALSE(parse_json("[16.0]", "t", 1).list()->at(0).integer<std::int32_t>());
  CHECK_FALSE(parse_json("[-1]", "t", 1).list()->at(0).integer<std::uint64_t>());
  check_refused(refusal([] { json_text("\xff", "name"); }), {"name", "JSON"});
  CHECK(report_json("\xff") == "\"\xef\xbf\xbd\"");
  CHECK(report_json(Json(Json::Object{{"b", Json::List{}}, {"a", 0.1}, {"c", nullptr}})) == R"({"b":[],"a":0.1,"c":null})");
}
