"""`pulsar-perf` and `pulsar-client`: a bounded number of messages, all of which arrive."""

import re
import unittest

from distribution import SERVICE_URL, Workplace, unique

COUNT = 5_000


class PerfTest(unittest.TestCase):
    def setUp(self):
        self.workplace = Workplace()
        self.addCleanup(self.workplace.close)

    def perf(self, command, *arguments):
        output = self.workplace.run("pulsar-perf", command, "-u", SERVICE_URL, *arguments)
        self.assertEqual(output.code, 0, output.text)
        records = re.search(r"Aggregated throughput stats --- +(\d+) records", output.text)
        self.assertIsNotNone(records, output.text)
        return int(records.group(1))

    def test_batch__perf_produces_consumes_and_reads(self):
        topic = f"persistent://public/default/{unique('perf')}"
        # It stops some batches after the number is reached.
        self.assertGreaterEqual(self.perf("produce", "-m", COUNT, "-r", 100_000, "-s", 300, topic), COUNT)
        self.assertEqual(self.perf("consume", "-m", COUNT, "-sp", "Earliest", "-ss", "s", topic), COUNT)
        self.assertEqual(self.perf("read", "-n", COUNT, topic), COUNT)

    def test_partitioned_topics__perf_with_shared_and_key_shared_consumers(self):
        topic = f"persistent://public/default/{unique('perf-parts')}"
        sent = self.perf("produce", "-m", COUNT, "-r", 100_000, "-np", 3, "-mk", "random", "-db", topic)
        self.assertGreaterEqual(sent, COUNT)
        for kind in ("Shared", "Key_Shared"):
            with self.subTest(kind):
                # Whatever of the two consumers has the last message ends the program; the other may be ahead.
                received = self.perf(
                    "consume", "-m", COUNT, "-n", 2, "-sp", "Earliest", "-ss", kind, "-st", kind, topic
                )
                self.assertGreaterEqual(received, COUNT)

    def test_send__client_produces_and_consumes(self):
        topic = f"persistent://public/default/{unique('client')}"
        produced = self.workplace.run(
            "pulsar-client", "produce", "-m", "hello", "-n", 10, "-k", "key", "-p", "a=b", topic
        )
        self.assertEqual(produced.code, 0, produced.text)
        self.assertIn("10 messages successfully produced", produced.text)
        consumed = self.workplace.run(
            "pulsar-client", "consume", "-s", "s", "-n", 10, "-p", "Earliest", "-t", "Shared", topic
        )
        self.assertEqual(consumed.code, 0, consumed.text)
        self.assertEqual(consumed.text.count("content:hello"), 10, consumed.text)
        self.assertIn("key:[key], properties:[a=b]", consumed.text)
        read = self.workplace.run("pulsar-client", "read", "-n", 10, "-m", "earliest", topic)
        self.assertEqual(read.code, 0, read.text)
        self.assertEqual(read.text.count("content:hello"), 10, read.text)


if __name__ == "__main__":
    unittest.main()
