// The core as an addon of Node: conversion only. Every call runs in a thread of its own, and takes an AbortSignal, or
// undefined, before what it is of; descriptors go to whoever called, who closes them.
#include <blkid/blkid.h>
#include <fcntl.h>
#include <libfdisk/libfdisk.h>
#include <libmount/libmount.h>
#include <napi.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "core/descriptor.hh"
#include "core/flags.hh"
#include "core/loop.hh"
#include "core/mount.hh"
#include "core/probe.hh"
#include "core/table.hh"

namespace {

using namespace blockdev;

// What a call that has begun does when nobody wants it any more: one that reads is not waited for, and what it opens is
// closed; one that writes is, because nobody else may write there before the kernel has ended.
enum class Does { read, write };

// What became of the work.
template <typename Result>
struct Outcome {
  std::optional<Result> result;
  std::string why;
  int number = 0;
};

template <typename Result>
Outcome<Result> outcome_of(const std::function<Result()>& work) {
  Outcome<Result> outcome;
  try {
    outcome.result.emplace(work());
  } catch (const Error& error) {
    outcome.why = error.what();
    outcome.number = error.number();
  } catch (const std::exception& error) {
    outcome.why = error.what();
  }
  return outcome;
}

// Runs `work` elsewhere, and keeps the promise with what `convert` makes of it, or with the reason of the signal. A thread of
// the pool of Node would do neither: the process can't end before those have, and files wait for them.
template <typename Result>
class Call {
 public:
  using Work = std::function<Result()>;
  using Convert = std::function<Napi::Value(Napi::Env, Result&)>;

  static Napi::Value begin(const Napi::CallbackInfo& info, Does does, Work work, Convert convert) {
    const Napi::Env env = info.Env();
    const auto deferred = Napi::Promise::Deferred::New(env);
    const Napi::Value signal = info[0];
    if (signal.IsObject() && signal.As<Napi::Object>().Get("aborted").ToBoolean()) {
      deferred.Reject(signal.As<Napi::Object>().Get("reason"));
      return deferred.Promise();
    }
    auto* call = new Call(env, deferred, std::move(convert));
    if (signal.IsObject() && does == Does::read) call->heed(signal.As<Napi::Object>());
    try {
      std::thread(run, call->shared_, std::move(work)).detach();
    } catch (const std::system_error& error) {
      run(call->shared_, [&]() -> Result { throw Error("begin a thread", error.code().value()); });
    }
    return deferred.Promise();
  }

 private:
  static void settle(Napi::Env env, Napi::Function, Call* call, void*) {
    if (env != nullptr) call->settle(env);
  }
  using Notice = Napi::TypedThreadSafeFunction<Call, void, settle>;

  // What both threads have of a call.
  struct Shared {
    std::mutex mutex;
    Outcome<Result> outcome;
    bool done = false;
    // Nobody waits any more: the notice is not the thread's.
    bool ended = false;
    Notice notice;
  };

  Call(Napi::Env env, Napi::Promise::Deferred deferred, Convert convert)
      : deferred_(deferred), convert_(std::move(convert)) {
    shared_->notice = Notice::New(
        env, "blockdev", 0, 1, this, [](Napi::Env, void*, Call* call) { delete call; }, static_cast<void*>(nullptr));
    // Before the notice goes with it.
    napi_add_env_cleanup_hook(env, gone, this);
  }

  // The environment ends: nothing of it may be called any more.
  static void gone(void* call) {
    Shared& shared = *static_cast<Call*>(call)->shared_;
    const std::lock_guard<std::mutex> lock(shared.mutex);
    shared.ended = true;
  }

  // In the thread.
  static void run(std::shared_ptr<Shared> shared, Work work) {
    Outcome<Result> outcome = outcome_of(work);
    // Who hears of the end finds nothing open that was open for it.
    work = nullptr;
    const std::lock_guard<std::mutex> lock(shared->mutex);
    if (shared->ended) return;
    shared->outcome = std::move(outcome);
    shared->done = true;
    shared->notice.NonBlockingCall();
    shared->notice.Release();
  }

  void heed(Napi::Object signal) {
    const auto listener = Napi::Function::New(signal.Env(), [this](const Napi::CallbackInfo&) { abandon(); });
    signal_ = Napi::Persistent(signal);
    listener_ = Napi::Persistent(listener);
    tell("addEventListener");
  }

  void tell(const char* method) {
    const Napi::Object signal = signal_.Value();
    const auto abort = Napi::String::New(signal.Env(), "abort");
    signal.Get(method).As<Napi::Function>().Call(signal, {abort, listener_.Value()});
  }

  // From now on nobody waits: what comes to an end later is closed by its thread. False: so it was already.
  bool end() {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    if (shared_->ended) return false;
    shared_->ended = true;
    if (!shared_->done) shared_->notice.Release();
    return true;
  }

  void abandon() {
    if (!end()) return;
    const Napi::Env env = signal_.Env();
    forget(env);
    deferred_.Reject(signal_.Value().Get("reason"));
  }

  void settle(Napi::Env env) {
    if (!end()) return;
    forget(env);
    auto& [result, why, number] = shared_->outcome;
    if (result) {
      deferred_.Resolve(convert_(env, *result));
      return;
    }
    const Napi::Error error = Napi::Error::New(env, why);
    error.Value().Set("errno", Napi::Number::New(env, number));
    deferred_.Reject(error.Value());
  }

  void forget(Napi::Env env) {
    napi_remove_env_cleanup_hook(env, gone, this);
    if (!signal_.IsEmpty()) tell("removeEventListener");
  }

  Napi::Promise::Deferred deferred_;
  Convert convert_;
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  Napi::ObjectReference signal_;
  Napi::FunctionReference listener_;
};

// The arguments of a call, behind its signal.
uint64_t number(const Napi::Value& value) {
  return value.IsNumber() ? static_cast<uint64_t>(value.As<Napi::Number>().Int64Value()) : 0;
}

std::string text(const Napi::Value& value) { return value.IsString() ? value.As<Napi::String>().Utf8Value() : ""; }

using Held = std::shared_ptr<Descriptor>;

// A descriptor of its own: whoever called may close his, and open something else of that number, before the call has ended.
Held held(const Napi::Value& value) {
  const int fd = fcntl(static_cast<int>(number(value)), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) {
    const int why = errno;
    const Napi::Error error = Napi::Error::New(value.Env(), Error("use a descriptor", why).what());
    error.Value().Set("errno", Napi::Number::New(value.Env(), why));
    throw error;
  }
  return std::make_shared<Descriptor>(fd);
}

// A path as bytes: names of files need not be UTF-8.
std::string path(const Napi::Value& value) {
  if (!value.IsBuffer()) throw Napi::TypeError::New(value.Env(), "a path has to be a Buffer");
  const auto buffer = value.As<Napi::Buffer<char>>();
  return std::string(buffer.Data(), buffer.Length());
}

Napi::Value size(Napi::Env env, uint64_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

Napi::Value probe_call(const Napi::CallbackInfo& info) {
  const Held fd = held(info[1]);
  const uint64_t offset = number(info[2]), length = number(info[3]);
  using Found = std::optional<Signature>;
  return Call<Found>::begin(
      info, Does::read, [=] { return probe(fd->get(), offset, length); },
      [](Napi::Env env, Found& found) -> Napi::Value {
        if (!found) return env.Undefined();
        auto value = Napi::Object::New(env);
        value.Set("usage", found->usage);
        value.Set("type", found->type);
        value.Set("version", found->version);
        value.Set("label", found->label);
        value.Set("uuid", found->uuid);
        value.Set("blockSize", size(env, found->block_size));
        value.Set("table", found->table);
        return value;
      });
}

Napi::Value read_table_call(const Napi::CallbackInfo& info) {
  const std::string device = path(info[1]);
  const uint64_t sector = number(info[2]);
  using Found = std::optional<Table>;
  return Call<Found>::begin(
      info, Does::read, [=] { return read_table(device, sector); },
      [](Napi::Env env, Found& found) -> Napi::Value {
        if (!found) return env.Undefined();
        auto value = Napi::Object::New(env);
        value.Set("label", found->label);
        value.Set("id", found->id);
        value.Set("sectorSize", size(env, found->sector_size));
        value.Set("first", size(env, found->first));
        value.Set("end", size(env, found->end));
        value.Set("entries", size(env, found->entries));
        auto partitions = Napi::Array::New(env, found->partitions.size());
        for (uint32_t index = 0; index < found->partitions.size(); ++index) {
          const Partition& each = found->partitions[index];
          auto partition = Napi::Object::New(env);
          partition.Set("number", size(env, each.number));
          partition.Set("start", size(env, each.start));
          partition.Set("size", size(env, each.size));
          partition.Set("type", each.type);
          partition.Set("uuid", each.uuid);
          partition.Set("name", each.name);
          partition.Set("attributes", Napi::BigInt::New(env, each.attributes));
          partition.Set("container", Napi::Boolean::New(env, each.container));
          partitions[index] = partition;
        }
        value.Set("partitions", partitions);
        return value;
      });
}

Napi::Value write_table_call(const Napi::CallbackInfo& info) {
  const std::string device = path(info[1]);
  const auto given = info[2].As<Napi::Object>();
  Table table;
  table.label = text(given.Get("label"));
  table.id = text(given.Get("id"));
  table.sector_size = number(given.Get("sectorSize"));
  table.first = number(given.Get("first"));
  table.entries = number(given.Get("entries"));
  const auto partitions = given.Get("partitions").As<Napi::Array>();
  for (uint32_t index = 0; index < partitions.Length(); ++index) {
    const auto each = partitions.Get(index).As<Napi::Object>();
    Partition partition;
    partition.number = number(each.Get("number"));
    partition.start = number(each.Get("start"));
    partition.size = number(each.Get("size"));
    partition.type = text(each.Get("type"));
    partition.uuid = text(each.Get("uuid"));
    partition.name = text(each.Get("name"));
    bool lossless = false;
    partition.attributes = each.Get("attributes").As<Napi::BigInt>().Uint64Value(&lossless);
    table.partitions.push_back(std::move(partition));
  }
  return Call<bool>::begin(
      info, Does::write,
      [=] {
        write_table(device, table);
        return true;
      },
      [](Napi::Env env, bool&) { return env.Undefined(); });
}

Napi::Value reread_table_call(const Napi::CallbackInfo& info) {
  const Held fd = held(info[1]);
  return Call<bool>::begin(
      info, Does::write, [=] { return reread_table(fd->get()); },
      [](Napi::Env env, bool& done) -> Napi::Value { return Napi::Boolean::New(env, done); });
}

Napi::Value attach_call(const Napi::CallbackInfo& info) {
  const Held file = held(info[1]);
  const bool read_only = info[2].ToBoolean();
  const uint64_t offset = number(info[3]), length = number(info[4]);
  const auto sector = static_cast<uint32_t>(number(info[5]));
  const bool direct = info[6].ToBoolean();
  return Call<Loop>::begin(
      info, read_only ? Does::read : Does::write, [=] { return attach(file->get(), read_only, offset, length, sector, direct); },
      [](Napi::Env env, Loop& loop) -> Napi::Value {
        auto value = Napi::Object::New(env);
        value.Set("fd", Napi::Number::New(env, loop.fd.release()));
        value.Set("path", loop.path);
        value.Set("direct", Napi::Boolean::New(env, loop.direct));
        return value;
      });
}

Napi::Value mount_call(const Napi::CallbackInfo& info) {
  const std::string device = path(info[1]), type = text(info[2]);
  const bool read_only = info[3].ToBoolean();
  Options options;
  const auto given = info[4].As<Napi::Object>();
  for (const auto& [name, value] : given) {
    options.emplace_back(name.As<Napi::String>().Utf8Value(), text(static_cast<Napi::Value>(value)));
  }
  return Call<Descriptor>::begin(
      info, read_only ? Does::read : Does::write, [=] { return mount_detached(device, type, read_only, options); },
      [](Napi::Env env, Descriptor& root) -> Napi::Value { return Napi::Number::New(env, root.release()); });
}

Napi::Value clone_call(const Napi::CallbackInfo& info) {
  const std::string tree = path(info[1]);
  return Call<Descriptor>::begin(
      info, Does::read, [=] { return clone_mount(tree); },
      [](Napi::Env env, Descriptor& root) -> Napi::Value { return Napi::Number::New(env, root.release()); });
}

Napi::Value names(Napi::Env env, const std::vector<std::string>& all) {
  auto value = Napi::Array::New(env, all.size());
  for (uint32_t index = 0; index < all.size(); ++index) {
    value[index] = Napi::Buffer<char>::Copy(env, all[index].data(), all[index].size());
  }
  return value;
}

Napi::Value carry_call(const Napi::CallbackInfo& info) {
  const Held from = held(info[1]), to = held(info[2]);
  const std::string directory = path(info[3]);
  return Call<Carried>::begin(
      info, Does::write, [=] { return carry_flags(from->get(), to->get(), directory); },
      [](Napi::Env env, Carried& carried) -> Napi::Value {
        auto value = Napi::Object::New(env);
        value.Set("directories", names(env, carried.directories));
        value.Set("kept", size(env, carried.kept));
        value.Set("lost", names(env, carried.lost));
        return value;
      });
}

Napi::Value mounts_call(const Napi::CallbackInfo& info) {
  using All = std::vector<Mounted>;
  return Call<All>::begin(
      info, Does::read, [] { return mounts(); },
      [](Napi::Env env, All& all) -> Napi::Value {
        auto value = Napi::Array::New(env, all.size());
        for (uint32_t index = 0; index < all.size(); ++index) {
          const Mounted& each = all[index];
          auto mounted = Napi::Object::New(env);
          mounted.Set("source", Napi::Buffer<char>::Copy(env, each.source.data(), each.source.size()));
          mounted.Set("target", Napi::Buffer<char>::Copy(env, each.target.data(), each.target.size()));
          mounted.Set("root", Napi::Buffer<char>::Copy(env, each.root.data(), each.root.size()));
          mounted.Set("type", each.type);
          mounted.Set("options", each.options);
          mounted.Set("major", Napi::Number::New(env, each.major));
          mounted.Set("minor", Napi::Number::New(env, each.minor));
          value[index] = mounted;
        }
        return value;
      });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  // What the libraries have for all threads they make on first use.
  blkid_init_debug(0);
  mnt_init_debug(0);
  fdisk_init_debug(0);
  exports.Set("probe", Napi::Function::New(env, probe_call));
  exports.Set("readTable", Napi::Function::New(env, read_table_call));
  exports.Set("writeTable", Napi::Function::New(env, write_table_call));
  exports.Set("rereadTable", Napi::Function::New(env, reread_table_call));
  exports.Set("attachLoop", Napi::Function::New(env, attach_call));
  exports.Set("mountDetached", Napi::Function::New(env, mount_call));
  exports.Set("cloneMount", Napi::Function::New(env, clone_call));
  exports.Set("carryFlags", Napi::Function::New(env, carry_call));
  exports.Set("mounts", Napi::Function::New(env, mounts_call));
  return exports;
}

}  // namespace

NODE_API_MODULE(blockdev, init)
