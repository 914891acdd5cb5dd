#include "capi/plan_json.hpp"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <span>

#include "planner/planner.hpp"

namespace flashladder::capi {
namespace {

// Text that is written from left to right: a comma comes by itself between members.
class Writer {
 public:
  Writer& key(const char* name) {
    comma();
    text_ += '"';
    text_ += name;
    text_ += "\":";
    fresh_ = true;
    return *this;
  }
  void open(char bracket) {
    comma();
    text_ += bracket;
    fresh_ = true;
  }
  void close(char bracket) {
    text_ += bracket;
    fresh_ = false;
  }
  template <class Number>
  void number(Number n) {
    comma();
    char digits[32];  // the shortest that reads back as the same number; 64 bits have 20 digits, a double 24 characters
    text_.append(digits, std::to_chars(digits, digits + sizeof digits, n).ptr);
  }
  void boolean(bool b) {
    comma();
    text_ += b ? "true" : "false";
  }
  void string(const std::string& s) {
    comma();
    text_ += '"';
    for (const char c : s) {
      char escaped[8];
      if (c == '"' || c == '\\') text_ += '\\';
      if (static_cast<unsigned char>(c) >= 0x20) text_ += c;
      else text_.append(escaped, static_cast<std::size_t>(std::snprintf(escaped, sizeof escaped, "\\u%04x", c)));
    }
    text_ += '"';
  }
  template <class Number>
  void list(std::span<const Number> numbers) {
    open('[');
    for (const Number n : numbers) number(n);
    close(']');
  }
  void range(Range r) {
    const std::int32_t ends[] = {r.begin, r.end};
    list<std::int32_t>(ends);
  }
  std::string take() { return std::move(text_); }

 private:
  void comma() {
    if (!fresh_) text_ += ',';
    fresh_ = false;
  }
  std::string text_;
  bool fresh_ = true;  // nothing stands before this in its list, object or member
};

void write_item(Writer& json, const WorkItem& w) {
  json.open('{');
  json.key("request").number(w.request);
  json.key("head").number(w.head);
  json.key("rows").range(w.rows);
  json.key("keys").range(w.keys);
  json.key("tier").number(int{w.tier});
  json.key("flags").number(int{w.flags});
  json.key("merge").number(w.merge);
  json.key("partial_slot").number(w.partial_slot);
  json.close('}');
}

void write_merge(Writer& json, const Merge& m) {
  json.open('{');
  json.key("request").number(m.request);
  json.key("head").number(m.head);
  json.key("rows").range(m.rows);
  json.key("first_slot").number(m.first_slot);
  json.key("num_partials").number(m.num_partials);
  json.close('}');
}

void write_part(Writer& json, const PlanPart& part) {
  json.open('{');
  json.key("query_tile").number(part.query_tile);
  json.key("pack").number(part.pack);
  json.key("claimed").boolean(part.claimed);
  json.key("items").open('[');
  for (std::int64_t w = 0; w < part.num_work(); ++w) write_item(json, part.work(w));
  json.close(']');
  json.key("queue_indptr").list<std::int32_t>(part.queue_indptr);
  json.key("queue").list<std::int32_t>(part.queue);
  json.key("merges").open('[');
  for (std::int64_t m = 0; m < part.num_merges(); ++m) write_merge(json, part.merge(m));
  json.close(']');
  json.close('}');
}

}  // namespace

std::string plan_json(const Plan& plan, const std::string& explanation) {
  const planner::PlanSummary s = planner::summarize(plan);
  Writer json;
  json.open('{');
  json.key("explain").string(explanation);
  json.key("batch").number(plan.batch);
  json.key("num_qo_heads").number(plan.num_qo_heads);
  json.key("num_kv_heads").number(plan.num_kv_heads);
  json.key("qo_lens").list<std::int32_t>(plan.qo_lens);
  json.key("kv_lens").list<std::int32_t>(plan.kv_lens);
  json.key("chunk_size").number(plan.chunk_size);
  json.key("group_size").number(plan.group_size());
  json.key("work_units").number(s.items);
  json.key("tier_counts").list<std::int64_t>(s.tier_counts);
  json.key("chunks").open('{');
  json.key("min").number(s.chunks_min);
  json.key("max").number(s.chunks_max);
  json.key("avg").number(s.chunks_avg);
  json.close('}');
  json.key("utilisation").number(s.utilisation);
  json.key("tail").number(s.tail);
  json.key("idle_ctas").number(s.idle_ctas);
  json.key("total_cost").number(plan.total_cost);
  json.key("makespan").number(plan.makespan);
  json.key("partial_rows").number(s.partial_rows);
  json.key("workspace_bytes").number(s.workspace_bytes);
  json.key("cta_cost").list<float>(plan.cta_cost);
  json.key("parts").open('[');
  for (const PlanPart& part : plan.parts) write_part(json, part);
  json.close(']');
  json.close('}');
  return json.take();
}

}  // namespace flashladder::capi
