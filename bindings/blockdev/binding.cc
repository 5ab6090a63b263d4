// The core as an addon of Node: conversion only. Every call runs off the JavaScript thread, one at a time, because the
// libraries are not made for several; descriptors go to whoever called, who closes them.
#include <napi.h>

#include <functional>
#include <mutex>

#include "core/descriptor.hh"
#include "core/flags.hh"
#include "core/loop.hh"
#include "core/mount.hh"
#include "core/probe.hh"
#include "core/table.hh"

namespace {

using namespace blockdev;

std::mutex one_at_a_time;

// Runs `work` elsewhere, and keeps the promise with what `convert` makes of it.
template <typename Result>
class Call : public Napi::AsyncWorker {
 public:
  using Work = std::function<Result()>;
  using Convert = std::function<Napi::Value(Napi::Env, Result&)>;

  static Napi::Promise begin(Napi::Env env, Work work, Convert convert) {
    auto* call = new Call(env, std::move(work), std::move(convert));
    call->Queue();
    return call->deferred_.Promise();
  }

 protected:
  void Execute() override {
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    try {
      result_ = std::make_unique<Result>(work_());
    } catch (const Error& error) {
      number_ = error.number();
      SetError(error.what());
    } catch (const std::exception& error) {
      SetError(error.what());
    }
  }
  void OnOK() override { deferred_.Resolve(convert_(Env(), *result_)); }
  void OnError(const Napi::Error& error) override {
    error.Value().Set("errno", Napi::Number::New(Env(), number_));
    deferred_.Reject(error.Value());
  }

 private:
  Call(Napi::Env env, Work work, Convert convert)
      : Napi::AsyncWorker(env), deferred_(env), work_(std::move(work)), convert_(std::move(convert)) {}

  Napi::Promise::Deferred deferred_;
  Work work_;
  Convert convert_;
  std::unique_ptr<Result> result_;
  int number_ = 0;
};

uint64_t number(const Napi::Value& value) {
  return value.IsNumber() ? static_cast<uint64_t>(value.As<Napi::Number>().Int64Value()) : 0;
}

std::string text(const Napi::Value& value) { return value.IsString() ? value.As<Napi::String>().Utf8Value() : ""; }

// A path as bytes: names of files need not be UTF-8.
std::string path(const Napi::Value& value) {
  if (!value.IsBuffer()) throw Napi::TypeError::New(value.Env(), "a path has to be a Buffer");
  const auto buffer = value.As<Napi::Buffer<char>>();
  return std::string(buffer.Data(), buffer.Length());
}

Napi::Value size(Napi::Env env, uint64_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

Napi::Value probe_call(const Napi::CallbackInfo& info) {
  const int fd = static_cast<int>(number(info[0]));
  const uint64_t offset = number(info[1]), length = number(info[2]);
  using Found = std::optional<Signature>;
  return Call<Found>::begin(
      info.Env(), [=] { return probe(fd, offset, length); },
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
  const std::string device = path(info[0]);
  const uint64_t sector = number(info[1]);
  using Found = std::optional<Table>;
  return Call<Found>::begin(
      info.Env(), [=] { return read_table(device, sector); },
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
  const std::string device = path(info[0]);
  const auto given = info[1].As<Napi::Object>();
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
      info.Env(),
      [=] {
        write_table(device, table);
        return true;
      },
      [](Napi::Env env, bool&) { return env.Undefined(); });
}

Napi::Value reread_table_call(const Napi::CallbackInfo& info) {
  const int fd = static_cast<int>(number(info[0]));
  return Call<bool>::begin(
      info.Env(), [=] { return reread_table(fd); },
      [](Napi::Env env, bool& done) -> Napi::Value { return Napi::Boolean::New(env, done); });
}

Napi::Value attach_call(const Napi::CallbackInfo& info) {
  const int file = static_cast<int>(number(info[0]));
  const bool read_only = info[1].ToBoolean();
  const uint64_t offset = number(info[2]), length = number(info[3]);
  const auto sector = static_cast<uint32_t>(number(info[4]));
  const bool direct = info[5].ToBoolean();
  return Call<Loop>::begin(
      info.Env(), [=] { return attach(file, read_only, offset, length, sector, direct); },
      [](Napi::Env env, Loop& loop) -> Napi::Value {
        auto value = Napi::Object::New(env);
        value.Set("fd", Napi::Number::New(env, loop.fd.release()));
        value.Set("path", loop.path);
        value.Set("direct", Napi::Boolean::New(env, loop.direct));
        return value;
      });
}

Napi::Value mount_call(const Napi::CallbackInfo& info) {
  const std::string device = path(info[0]), type = text(info[1]);
  const bool read_only = info[2].ToBoolean();
  Options options;
  const auto given = info[3].As<Napi::Object>();
  for (const auto& [name, value] : given) {
    options.emplace_back(name.As<Napi::String>().Utf8Value(), text(static_cast<Napi::Value>(value)));
  }
  return Call<Descriptor>::begin(
      info.Env(), [=] { return mount_detached(device, type, read_only, options); },
      [](Napi::Env env, Descriptor& root) -> Napi::Value { return Napi::Number::New(env, root.release()); });
}

Napi::Value clone_call(const Napi::CallbackInfo& info) {
  const std::string tree = path(info[0]);
  return Call<Descriptor>::begin(
      info.Env(), [=] { return clone_mount(tree); },
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
  const int from = static_cast<int>(number(info[0])), to = static_cast<int>(number(info[1]));
  const std::string directory = path(info[2]);
  return Call<Carried>::begin(
      info.Env(), [=] { return carry_flags(from, to, directory); },
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
      info.Env(), [] { return mounts(); },
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
