#include "runtime/cli/status_text.h"

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "runtime/cli/json_text.h"

namespace muster::cli {
namespace {

template <typename Message>
Message FromText(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

v1::StatusReply Cluster() {
  return FromText<v1::StatusReply>(R"pb(
    address: "127.0.0.1:6379"
    version: "0.1.0"
    uptime_ns: 192500000000
    pid: 800
    nodes {
      id: "6f1c2a"
      state: "alive"
      pid: 812
      labels { key: "ray.io/node-id" value: "6f1c2a" }
      labels { key: "ray.io/accelerator-type" value: "L4" }
      labels { key: "ray.io/accelerator" value: "L4" }
      labels { key: "ray.io/market-type" value: "on-demand" }
      total {
        cpus: 20000
        gpus { id: "GPU-1" model: "NVIDIA L4" memory_bytes: 25769803776 }
        gpus { id: "GPU-2" model: "NVIDIA L4" memory_bytes: 25769803776 }
        memory_bytes: 8589934592
      }
      used { cpus: 10000 gpus: 15000 memory_bytes: 214748365 }
    }
    nodes {
      id: "9b02d1"
      state: "draining"
      deadline_in_ns: 90000000000
      drain_reason: "maintenance"
      unhealthy { gpu: 0 reason: "xid 79" }
      pid: 813
      labels { key: "zone" value: "a" }
      total {
        cpus: 25000
        gpus { id: "0" }
        memory_bytes: 9126805504
      }
      used {}
    }
    nodes {
      id: "c0ffee"
      state: "lost"
      pid: 814
      total {}
      used {}
    }
    waiting {
      class_name: "Score"
      count: 12
      needs: "1 CPU, 1 GPU"
      since_ns: 41900000000
      requests: "4f2a"
      requests: "4f2b"
      choices_summary: "L4+spot > L4"
      why: "L4+spot: 1 node, draining; L4: opens in 1m19s"
      choices {
        selector: "accelerator-type=L4"
        state: "open"
        why: "none free"
        needs: "1 CPU"
        matching_nodes: 1
        nodes: 2
      }
    }
  )pb");
}

TEST(StatusTextTest, ShowsNodesAndWhatWaits) {
  EXPECT_EQ(
      StatusText(Cluster(), Style{}),
      "head 127.0.0.1:6379, up 3m12s, 1 node alive, 1 draining, 1 lost\n"
      "NODE    STATE     CPU    GPU    MEMORY       LABELS\n"
      "6f1c2a  alive     1/2    1.5/2  0.2/8 GiB    accelerator-type=L4 market-type=on-demand\n"
      "9b02d1  draining  0/2.5  0/1    0.0/8.5 GiB  zone=a\n"
      "c0ffee  lost      0/0    0/0    0.0/0 GiB\n"
      "NODE    CONDITION\n"
      "9b02d1  draining, 1m30s left: maintenance\n"
      "9b02d1  GPU 0 in quarantine: xid 79\n"
      "WAITING  NEEDS         CHOICES       SINCE  WHY\n"
      "12       1 CPU, 1 GPU  L4+spot > L4  41s    L4+spot: 1 node, draining; L4: opens in "
      "1m19s\n");
}

TEST(StatusTextTest, ShowsOtherResourcesWhereThereAreAny) {
  const auto reply = FromText<v1::StatusReply>(R"pb(
    address: "h:1"
    nodes {
      id: "a"
      state: "alive"
      total {
        custom { name: "license" amount: 20000 }
        custom { name: "ssd" amount: 5000 }
      }
      used { custom { name: "license" amount: 10000 } }
    }
  )pb");
  EXPECT_EQ(StatusText(reply, Style{}),
            "head h:1, up 0s, 1 node alive\n"
            "NODE  STATE  CPU  GPU  MEMORY     OTHER                   LABELS\n"
            "a     alive  0/0  0/0  0.0/0 GiB  license 1/2, ssd 0/0.5\n");
}

TEST(StatusTextTest, AnEmptyClusterIsOneLine) {
  const auto reply = FromText<v1::StatusReply>("address: 'h:1' uptime_ns: 100000000000000");
  EXPECT_EQ(StatusText(reply, Style{}), "head h:1, up 1d3h, 0 nodes alive\n");
  EXPECT_EQ(NodesText(reply, Style{}), "no nodes\n");
}

TEST(StatusTextTest, ColorStandsAroundThePaddedText) {
  const std::string text = StatusText(Cluster(), Style{.color = true});
  EXPECT_THAT(text, ::testing::HasSubstr("9b02d1  \x1b[33mdraining\x1b[0m  0/2.5"));
  EXPECT_THAT(text, ::testing::HasSubstr("c0ffee  \x1b[31mlost\x1b[0m      0/0"));
}

TEST(StatusTextTest, NodesAreShownInFull) {
  EXPECT_EQ(NodesText(Cluster(), Style{}),
            "6f1c2a  alive, pid 812\n"
            "  CPUs    1/2\n"
            "  GPUs    1.5/2\n"
            "          2 x NVIDIA L4 (24 GiB)\n"
            "  memory  0.2/8 GiB\n"
            "  labels  ray.io/accelerator-type=L4\n"
            "          ray.io/market-type=on-demand\n"
            "9b02d1  draining, pid 813\n"
            "  CPUs       0/2.5\n"
            "  GPUs       0/1\n"
            "             pretended\n"
            "  memory     0.0/8.5 GiB\n"
            "  condition  draining, 1m30s left: maintenance\n"
            "  condition  GPU 0 in quarantine: xid 79\n"
            "  labels     zone=a\n"
            "c0ffee  lost, pid 814\n"
            "  CPUs    0/0\n"
            "  GPUs    0/0\n"
            "  memory  0.0/0 GiB\n");
}

TEST(JsonTextTest, StatusHasWhatIsPromised) {
  v1::StatusReply reply = Cluster();
  reply.mutable_nodes()->DeleteSubrange(1, 2);
  reply.mutable_nodes(0)->mutable_total()->mutable_gpus()->DeleteSubrange(1, 1);
  EXPECT_EQ(StatusJson(reply), R"({
  "head": {
    "address": "127.0.0.1:6379",
    "version": "0.1.0",
    "uptime_s": 192.5,
    "pid": 800
  },
  "nodes": [
    {
      "id": "6f1c2a",
      "state": "alive",
      "pid": 812,
      "labels": {
        "ray.io/node-id": "6f1c2a",
        "ray.io/accelerator-type": "L4",
        "ray.io/accelerator": "L4",
        "ray.io/market-type": "on-demand"
      },
      "resources": {
        "cpus": {
          "used": 1,
          "total": 2
        },
        "gpus": {
          "used": 1.5,
          "total": 1
        },
        "memory_bytes": {
          "used": 214748365,
          "total": 8589934592
        }
      },
      "gpu_devices": [
        {
          "id": "GPU-1",
          "model": "NVIDIA L4",
          "memory_bytes": 25769803776
        }
      ],
      "quarantine": []
    }
  ],
  "waiting": [
    {
      "class": "Score",
      "count": 12,
      "needs": "1 CPU, 1 GPU",
      "since_s": 41.9,
      "requests": [
        "4f2a",
        "4f2b"
      ],
      "choices": [
        {
          "selector": "accelerator-type=L4",
          "state": "open",
          "why": "none free",
          "needs": "1 CPU",
          "matching_nodes": 1,
          "nodes": 2
        }
      ],
      "why": "L4+spot: 1 node, draining; L4: opens in 1m19s"
    }
  ],
  "placement_groups": [],
  "sharing": {
    "policy": "",
    "tenants": [],
    "quotas": []
  }
}
)");
}

TEST(JsonTextTest, ACustomResourceCannotPassForAnotherOne) {
  const auto reply = FromText<v1::StatusReply>(
      "nodes { total { cpus: 10000 custom { name: 'cpus' amount: 70000 } custom { name: 'disk' "
      "amount: 5000 } } }");
  EXPECT_THAT(NodesJson(reply),
              ::testing::HasSubstr("\"cpus\": {\n        \"used\": 0,\n        \"total\": 1\n"));
  EXPECT_THAT(NodesJson(reply),
              ::testing::HasSubstr("\"disk\": {\n        \"used\": 0,\n        \"total\": 0.5\n"));
}

TEST(JsonTextTest, TextsThatAreNotUtf8StillMakeJson) {
  v1::ExplainReply reply;
  reply.set_found(v1::ExplainReply::FOUND_ONE);
  reply.mutable_task()->set_name("\xff");
  EXPECT_THAT(ExplainJson(reply), ::testing::HasSubstr("\"name\": \"\xef\xbf\xbd\""));
}

TEST(JsonTextTest, ExplainSaysWhatWasFound) {
  EXPECT_EQ(ExplainJson(v1::ExplainReply()), "{\n  \"found\": \"none\"\n}\n");
  EXPECT_EQ(
      ExplainJson(
          FromText<v1::ExplainReply>("found: FOUND_SEVERAL candidates: '4f2a Score (waiting)'")),
      "{\n  \"found\": \"several\",\n  \"candidates\": [\n    \"4f2a Score (waiting)\"\n  ]\n}\n");
  EXPECT_EQ(
      ExplainJson(FromText<v1::ExplainReply>("found: FOUND_ONE task { task_id: '4f2a' name: "
                                             "'Score' state: 'running' } text: 'It runs.\\n' "
                                             "node: '6f1c2a' choice: 1")),
      "{\n  \"found\": \"one\",\n  \"task\": {\n    \"id\": \"4f2a\",\n    \"name\": \"Score\",\n"
      "    \"state\": \"running\"\n  },\n  \"text\": \"It runs.\\n\",\n  \"node\": \"6f1c2a\",\n  "
      "\"choice\": 1\n}\n");
}

TEST(OutputTest, AgesHaveTwoUnitsAtMost) {
  EXPECT_EQ(Age(absl::Milliseconds(900)), "0s");
  EXPECT_EQ(Age(absl::Seconds(59)), "59s");
  EXPECT_EQ(Age(absl::Seconds(192)), "3m12s");
  EXPECT_EQ(Age(absl::Minutes(125)), "2h5m");
  EXPECT_EQ(Age(absl::Hours(52)), "2d4h");
  EXPECT_EQ(Age(absl::Seconds(-5)), "0s");
}

TEST(OutputTest, TerminalsGetNoControlCharactersOfOthers) {
  EXPECT_EQ(Printable("a\x1b[31mb\r\n\tc\x7f"), "a?[31mb?\n\tc?");
  EXPECT_EQ(Printable("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
}

}  // namespace
}  // namespace muster::cli
