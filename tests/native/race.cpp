#include "race.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "race_clocks.h"

namespace race {
namespace {

// Calls that led to where a thread is, numbered: each is a call from another.
class Stacks {
 public:
  std::uint16_t call(std::uint16_t from, std::uint32_t pc) {
    const std::uint64_t key = std::uint64_t{pc} << 16 | from;
    const auto next = static_cast<std::uint16_t>(calls_.size());
    const auto [found, fresh] = numbers_.try_emplace(key, next);
    if (fresh) calls_.push_back({from, pc});
    return found->second;
  }
  // Where an access or a meeting was, the innermost call first.
  std::string text(std::uint32_t pc, std::uint16_t stack) const {
    std::string out = hex(pc);
    for (; stack != 0; stack = calls_[stack].from) out += " " + hex(calls_[stack].pc);
    return out;
  }

 private:
  struct Call {
    std::uint16_t from;
    std::uint32_t pc;
  };
  static std::string hex(std::uint32_t pc) {
    char digits[16];
    std::snprintf(digits, sizeof digits, "%x", pc);
    return digits;
  }
  std::vector<Call> calls_{{0, 0}};  // the first: none
  std::unordered_map<std::uint64_t, std::uint16_t> numbers_;
};

struct Region {
  const char* name;
  std::uintptr_t from, to;
  bool input;
  std::vector<Cell> cells;  // of words; none of an input
  std::vector<Cell> upper;  // of the upper halves of those that are halved; none before there are

  // Calls f with the cells that an access touches.  A word is accessed whole or by halves.
  template <typename F>
  void for_cells(std::uintptr_t address, std::size_t bytes, F f) {
    const std::uintptr_t begin = address - from, end = std::min(address + bytes, to) - from;
    for (std::uintptr_t word = begin / 4 * 4; word < end; word += 4) {
      Cell& cell = cells[word / 4];
      const bool low = begin<word + 2, high = end> word + 2;
      if (low != high && !cell.halved) {
        upper.resize(cells.size());
        upper[word / 4].write = cell.write;
        cell.halved = true;
      }
      if (low || !cell.halved) f(cell);
      if (high && cell.halved) f(upper[word / 4]);
    }
  }
};

struct Place {
  std::uint32_t pc = 0;
  std::uint16_t stack = 0;
  bool operator!=(const Place& other) const { return pc != other.pc || stack != other.stack; }
};

struct Thread {
  std::vector<std::uint16_t> stack{0};
  Place meets;                // where it waits for others
  bool fenced = false;        // it has a time of its last fence
  bool will_acquire = false;  // its next fence learns of something
};

const char* name_of(Access kind) {
  constexpr const char* kNames[] = {"read", "write", "volatile read", "volatile write", "atomic"};
  return kNames[static_cast<int>(kind)];
}
bool writes(Access kind) { return kind != Access::read && kind != Access::strong_read; }

class Detector final : public host::Watcher {
 public:
  void begin_solve() {
    regions_.clear();
    last_ = nullptr;
    host::watch(this);
  }
  void stop_at_first() { stop_at_first_ = true; }
  void only_disturb(bool only) { only_disturbs_ = only; }
  void add_region(const char* name, const void* from, std::size_t bytes, bool input) {
    if (bytes == 0) return;
    const auto address = reinterpret_cast<std::uintptr_t>(from);
    auto region = std::make_unique<Region>(Region{name, address, address + bytes, input, {}, {}});
    if (!input) region->cells.resize((bytes + 3) / 4);
    regions_.push_back(std::move(region));
  }

  void begin_launch(unsigned threads) override {
    threads_.assign(threads, Thread{});
    for (auto* times : {&clocks_, &fences_, &learns_}) {
      times->assign(std::size_t{threads} * threads, 0);
    }
    for (unsigned t = 0; t < threads; ++t) clock(t)[t] = 1;
    marks_.clear(threads);
    released_.clear(threads);
    for (const auto& region : regions_) {
      for (auto* cells : {&region->cells, &region->upper}) {
        for (Cell& cell : *cells) {
          Cell fresh;
          fresh.halved = cell.halved;
          if (cell.written()) fresh.write.thread = 0;  // at time 0, which all know of
          cell = fresh;
        }
      }
    }
  }
  void end_launch() override { self_ = nullptr; }
  void begin_block(void* shared, std::size_t bytes) override {
    add_region("shared memory", shared, bytes, false);
  }
  void end_block(void* shared) override {
    const auto from = reinterpret_cast<std::uintptr_t>(shared);
    for (auto& region : regions_) {
      if (region->from != from) continue;
      std::swap(region, regions_.back());
      regions_.pop_back();
      last_ = nullptr;
      break;
    }
  }
  void enter(unsigned thread, const void* stack, std::size_t bytes) override {
    stack_ = reinterpret_cast<std::uintptr_t>(stack);
    stack_bytes_ = bytes;
    id_ = static_cast<std::uint16_t>(thread);
    self_ = &threads_[thread];
    now_ = clock(thread);
  }
  void arrive(host::Meeting, const void* caller) override {
    self_->meets = {pc_of(caller), self_->stack.back()};
  }
  void meet(host::Meeting meeting, const unsigned* threads, std::size_t count) override {
    if (only_disturbs_) return;
    const Place& first = threads_[threads[0]].meets;
    for (std::size_t k = 1; k < count; ++k) {
      const Place& other = threads_[threads[k]].meets;
      if (other != first) {
        note("DIVERGED|" + stacks_.text(first.pc, first.stack) + "|" +
             stacks_.text(other.pc, other.stack));
      }
    }
    if (meeting != host::Meeting::barrier) return;
    const std::size_t n = threads_.size();
    all_.assign(n, 0);
    for (std::size_t k = 0; k < count; ++k) join(all_.data(), clock(threads[k]), n);
    for (std::size_t k = 0; k < count; ++k) {
      std::copy(all_.begin(), all_.end(), clock(threads[k]));
      ++clock(threads[k])[threads[k]];
    }
  }
  void clear(void* from, std::size_t bytes) override {
    const auto address = reinterpret_cast<std::uintptr_t>(from);
    if (Region* const region = find(address)) {
      region->for_cells(address, bytes, [](Cell& cell) { cell.write.thread = 0; });
    }
  }

  void access(Access kind, const void* p, std::size_t bytes, const void* caller, Order order) {
    if (self_ == nullptr) return;
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    if (address - stack_ < stack_bytes_) return;
    Region* const region = find(address);
    if (region == nullptr) return;
    const std::uint32_t pc = pc_of(caller);
    if (region->input) {
      if (writes(kind)) note_alone("INPUT", kind, *region, pc);
      return;
    }
    if (kind == Access::write) host::maybe_yield();  // others may read what was there before
    if (only_disturbs_) return;
    const bool publishes = order == Order::release;
    region->for_cells(address, bytes, [&](Cell& cell) {
      if (kind != Access::write && kind != Access::strong_write && !cell.written()) {
        note_alone("UNWRITTEN", kind, *region, pc);
      }
      check(cell, kind, pc, *region);
      if (kind == Access::read || kind == Access::write) return;
      if (kind != Access::strong_write && cell.released != 0) learn(cell, order);
      if (writes(kind)) publish(cell, kind, publishes);
    });
    if (publishes) ++now_[id_];
  }
  void fence() {
    if (self_ == nullptr || only_disturbs_) return;
    const std::size_t n = threads_.size();
    if (self_->will_acquire) {
      join(now_, learns(id_), n);
      std::fill_n(learns(id_), n, 0);
      self_->will_acquire = false;
    }
    std::copy_n(now_, n, fences(id_));
    self_->fenced = true;
    ++now_[id_];
  }
  void enter_function(const void* caller) {
    if (self_ == nullptr || only_disturbs_) return;
    self_->stack.push_back(stacks_.call(self_->stack.back(), pc_of(caller)));
  }
  void leave_function() {
    if (self_ != nullptr && self_->stack.size() > 1) self_->stack.pop_back();
  }

  void report() const {
    for (const auto& [text, count] : found_) print(text, count);
    std::fflush(stdout);
  }
  bool found() const { return !found_.empty(); }

 private:
  Time* clock(std::size_t t) { return &clocks_[t * threads_.size()]; }
  Time* fences(std::size_t t) { return &fences_[t * threads_.size()]; }
  Time* learns(std::size_t t) { return &learns_[t * threads_.size()]; }
  static std::uint32_t pc_of(const void* caller) {
    return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(caller));
  }

  Region* find(std::uintptr_t address) {
    if (last_ != nullptr && address >= last_->from && address < last_->to) return last_;
    for (const auto& region : regions_) {
      if (address >= region->from && address < region->to) return last_ = region.get();
    }
    return nullptr;
  }

  void check(Cell& cell, Access kind, std::uint32_t pc, const Region& region) {
    const Epoch now{now_[id_], id_, self_->stack.back(), pc};
    Marks& same = kind == Access::read          ? cell.reads
                  : kind == Access::strong_read ? cell.strong_reads
                                                : cell.strong_writes;
    if (kind != Access::write && same.has(id_, now.time, marks_)) return;
    const auto against = [&](Access before) {
      return [this, before, kind, &now, &region](const Epoch& e) {
        note_race(e, before, now, kind, region);
      };
    };
    if (cell.write.thread != kNobody && now_[cell.write.thread] < cell.write.time) {
      against(Access::write)(cell.write);
    }
    if (kind == Access::read || kind == Access::write) {
      cell.strong_writes.for_unordered(now_, marks_, against(Access::update));
    }
    if (writes(kind)) cell.reads.for_unordered(now_, marks_, against(Access::read));
    if (kind == Access::write) {
      cell.strong_reads.for_unordered(now_, marks_, against(Access::strong_read));
      for (Marks* marks : {&cell.reads, &cell.strong_reads, &cell.strong_writes}) {
        marks->clear(marks_);
      }
      cell.write = now;
      forget_release(cell);
    } else {
      same.add(now, now_, marks_);
    }
  }

  // A strong read of what was released.
  void learn(const Cell& cell, Order order) {
    if (order == Order::acquire) {
      join(now_, released_[cell.released], threads_.size());
    } else {
      join(learns(id_), released_[cell.released], threads_.size());
      self_->will_acquire = true;
    }
  }
  // A strong write: an update hands on what it found, too.
  void publish(Cell& cell, Access kind, bool publishes) {
    if (kind != Access::update) forget_release(cell);
    if (!publishes && !self_->fenced) return;
    if (cell.released == 0) cell.released = released_.take();
    join(released_[cell.released], publishes ? now_ : fences(id_), threads_.size());
  }
  void forget_release(Cell& cell) {
    if (cell.released != 0) released_.give_back(cell.released);
    cell.released = 0;
  }

  void note_race(const Epoch& e, Access before, const Epoch& now, Access kind,
                 const Region& region) {
    const RaceKey key{e.pc, e.stack, now.pc, now.stack,
                      static_cast<std::uint32_t>(before) << 8 | static_cast<std::uint32_t>(kind)};
    std::string& text = races_[key];
    if (text.empty()) {
      text = std::string("RACE|") + name_of(before) + "|" + name_of(kind) + "|" + region.name +
             "|" + std::to_string(e.thread) + " and " + std::to_string(now.thread) + "|" +
             stacks_.text(e.pc, e.stack) + "|" + stacks_.text(now.pc, now.stack);
    }
    note(text);
  }
  void note_alone(const char* what, Access kind, const Region& region, std::uint32_t pc) {
    note(std::string(what) + "|" + name_of(kind) + "|" + region.name + "|" +
         stacks_.text(pc, self_->stack.back()));
  }
  void note(const std::string& text) {
    const unsigned long long count = ++found_[text];
    if (!stop_at_first_) return;
    print(text, count);
    std::fflush(stdout);
    std::_Exit(4);
  }
  // The count goes behind the kind.
  static void print(const std::string& text, unsigned long long count) {
    const std::size_t kind = text.find('|');
    std::printf("%s|%llu%s\n", text.substr(0, kind).c_str(), count, text.c_str() + kind);
  }

  using RaceKey = std::array<std::uint32_t, 5>;

  std::vector<std::unique_ptr<Region>> regions_;
  Region* last_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<Time> clocks_, fences_, learns_;  // [threads, threads]
  std::vector<Time> all_;
  Pool<Epoch> marks_;
  Pool<Time> released_;
  Stacks stacks_;
  Thread* self_ = nullptr;  // the one that runs; null in the host's code
  Time* now_ = nullptr;     // its clock
  std::uintptr_t stack_ = 0;
  std::size_t stack_bytes_ = 0;
  std::uint16_t id_ = 0;
  bool stop_at_first_ = false, only_disturbs_ = false;
  std::map<RaceKey, std::string> races_;
  std::map<std::string, unsigned long long> found_;
};

Detector detector;

}  // namespace

void begin_solve() { detector.begin_solve(); }
void watch(Memory kind, const void* from, std::size_t bytes) {
  constexpr const char* kNames[] = {"workspace", "answer", "input"};
  detector.add_region(kNames[static_cast<int>(kind)], from, bytes, kind == Memory::input);
}
void stop_at_first() { detector.stop_at_first(); }
void only_disturb(bool only) { detector.only_disturb(only); }
void report() { detector.report(); }
bool found() { return detector.found(); }

void access(Access kind, const void* p, std::size_t bytes, const void* caller, Order order) {
  detector.access(kind, p, bytes, caller, order);
}
void fence() { detector.fence(); }
void enter_function(const void* caller) { detector.enter_function(caller); }
void leave_function() { detector.leave_function(); }

}  // namespace race
