#include "ladder/cases/files/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "core/error.hpp"
#include "ladder/cases/input/json.hpp"
#include "ladder/cases/input/text.hpp"

namespace flashladder::ladder {
namespace {

static_assert(std::endian::native == std::endian::little, "the file's numbers are little endian, and so must ours be");
constexpr std::uint64_t most_header_bytes = 100'000'000;  // the format's own limit
constexpr int header_depth = 3;                           // header, tensor, shape
constexpr auto dtypes = {FileDType::F64, FileDType::F32, FileDType::F16, FileDType::BF16,
                         FileDType::I64, FileDType::I32, FileDType::U8,  FileDType::BOOL,
                         FileDType::F8_E4M3, FileDType::F8_E5M2};

std::string_view header_of(std::span<const std::byte> file, const std::string& what) {
  require(file.size() >= 8, (what + " size").c_str(), file.size(), "must be at least 8 bytes: those of the header length");
  std::uint64_t length;
  std::memcpy(&length, file.data(), 8);
  const std::string where = what + " header length";
  require(length <= most_header_bytes, where.c_str(), length, "must be at most 100 MB");
  if (length > file.size() - 8) {
    throw InputError(where, std::to_string(length),
                     "is more than the file has (" + std::to_string(file.size() - 8) + " bytes)");
  }
  const std::string_view header(reinterpret_cast<const char*>(file.data()) + 8, length);
  require(header.starts_with('{'), (what + " header").c_str(), shown(header.substr(0, 8)), "must begin with {");
  return header;
}

FileDType dtype_from(const Json& value, const std::string& where) {
  if (value.text() == nullptr) throw InputError(where + " dtype", value.shown(), "must be a string");
  const std::string& name = *value.text();
  for (FileDType t : dtypes) {
    if (name == name_of(t)) return t;
  }
  throw InputError(where + " dtype", shown(name), "must be one of F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, U8, BOOL");
}

std::vector<std::int64_t> whole_numbers(const Json& value, const std::string& where) {
  if (value.list() == nullptr) throw InputError(where, value.shown(), "must be a list of whole numbers");
  std::vector<std::int64_t> numbers;
  for (const Json& element : *value.list()) {
    const std::optional<std::int64_t> n = element.integer<std::int64_t>();
    if (!n || *n < 0) throw InputError(where, element.shown(), "must be whole numbers of 0 .. 2^63 - 1");
    numbers.push_back(*n);
  }
  return numbers;
}

// dtype * shape in bytes; nothing if that overflows. The extents beside a 0 count too: strides are products of them.
std::optional<std::int64_t> bytes_of(const FileTensor& t) {
  std::int64_t bytes = static_cast<std::int64_t>(size_of(t.dtype));
  for (std::int64_t extent : t.shape) {
    if (extent != 0 && bytes > std::numeric_limits<std::int64_t>::max() / extent) return std::nullopt;
    bytes *= extent == 0 ? 1 : extent;
  }
  return std::find(t.shape.begin(), t.shape.end(), 0) == t.shape.end() ? bytes : 0;
}

struct Place {  // of a tensor in the data after the header
  std::int64_t begin, end;
  std::string name;
  friend auto operator<=>(const Place&, const Place&) = default;
};

FileTensor tensor_from(const Json& entry, std::span<const std::byte> data, const std::string& where, Place& place) {
  const Json *dtype = entry.find("dtype"), *shape = entry.find("shape"), *places = entry.find("data_offsets");
  if (dtype == nullptr || shape == nullptr || places == nullptr || entry.object()->size() != 3) {
    throw InputError(where, "", "must be an object of dtype, shape and data_offsets");
  }
  FileTensor tensor{dtype_from(*dtype, where), whole_numbers(*shape, where + " shape"), {}};
  const auto offsets = whole_numbers(*places, where + " data_offsets");
  require(offsets.size() == 2, (where + " data_offsets").c_str(), offsets.size(), "must be two: begin and end");
  place.begin = offsets[0];
  place.end = offsets[1];
  const std::string range = std::to_string(place.begin) + " .. " + std::to_string(place.end);
  if (place.begin > place.end || static_cast<std::uint64_t>(place.end) > data.size()) {
    throw InputError(where + " data_offsets", range,
                     "must lie within the " + std::to_string(data.size()) + " bytes of data");
  }
  const auto bytes = bytes_of(tensor);
  require(bytes.has_value(), (where + " shape").c_str(), "", "has more than 2^63 - 1 bytes");
  if (place.end - place.begin != *bytes) {
    throw InputError(where + " data_offsets", range,
                     "must hold the " + std::to_string(*bytes) + " bytes of dtype and shape");
  }
  tensor.bytes = data.subspan(static_cast<std::size_t>(place.begin), static_cast<std::size_t>(*bytes));
  return tensor;
}

std::map<std::string, std::string> metadata_from(const Json& entry, const std::string& where) {
  if (entry.object() == nullptr) throw InputError(where, entry.shown(), "must be an object of strings");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : *entry.object()) {
    if (value.text() == nullptr) throw InputError(where + " " + shown(key), value.shown(), "must be a string");
    metadata[key] = *value.text();
  }
  return metadata;
}

void require_no_gaps(std::vector<Place> places, std::size_t data_size, const std::string& what) {
  std::sort(places.begin(), places.end());
  std::int64_t at = 0;
  for (const Place& place : places) {
    if (place.begin != at) {
      throw InputError(what + ": tensor " + shown(place.name) + " data_offsets", std::to_string(place.begin),
                       "must begin where the tensor before it ends (" + std::to_string(at) + ")");
    }
    at = place.end;
  }
  require(static_cast<std::size_t>(at) == data_size, (what + " size").c_str(), data_size - static_cast<std::size_t>(at),
          "bytes after the last tensor belong to none");
}

}  // namespace

Safetensors parse_safetensors(std::span<const std::byte> file, const std::string& what) {
  const std::string_view text = header_of(file, what);
  const Json header = parse_json(text, what + " header", header_depth);
  const std::span<const std::byte> data = file.subspan(8 + text.size());
  Safetensors contents;
  std::vector<Place> places;
  for (const auto& [name, entry] : *header.object()) {
    if (name == "__metadata__") {
      contents.metadata = metadata_from(entry, what + ": __metadata__");
      continue;
    }
    Place place{0, 0, name};
    contents.tensors[name] = tensor_from(entry, data, what + ": tensor " + shown(name), place);
    places.push_back(std::move(place));
  }
  require_no_gaps(std::move(places), data.size(), what);
  return contents;
}

std::vector<std::byte> safetensors_bytes(const Safetensors& contents, const std::string& what) {
  std::vector<std::pair<std::string, FileTensor>> tensors(contents.tensors.begin(), contents.tensors.end());
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const auto& a, const auto& b) { return size_of(a.second.dtype) > size_of(b.second.dtype); });
  Json::Object header{{"__metadata__", contents.metadata}};
  std::size_t size = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::size_t end = size + tensor.bytes.size();
    header.emplace_back(name, Json::Object{{"dtype", name_of(tensor.dtype)}, {"shape", tensor.shape},
                                           {"data_offsets", Json::List{size, end}}});
    size = end;
  }
  std::string text = json_text(header, what);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begin at a multiple of 8

  const std::uint64_t length = text.size();
  std::vector<std::byte> file(8 + text.size() + size);
  std::memcpy(file.data(), &length, 8);
  std::memcpy(file.data() + 8, text.data(), text.size());
  auto at = file.begin() + static_cast<std::ptrdiff_t>(8 + text.size());
  for (const auto& [name, tensor] : tensors) at = std::copy(tensor.bytes.begin(), tensor.bytes.end(), at);
  return file;
}

}  // namespace flashladder::ladder
