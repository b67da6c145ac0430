"""`pulsar-admin`: one story of some fifty commands, from the tenant's creation to its end, told to one shell.

Each step is a test: its name (which claims a row of the coverage table), the command, and what its output has to be.
"""

import unittest

from distribution import Workplace, unique

TENANT = unique("tenant")
NAMESPACE = f"{TENANT}/ns"
TOPIC = f"persistent://{NAMESPACE}/plain"
PARTITIONED = f"persistent://{NAMESPACE}/parts"
SCHEMA_TOPIC = f"persistent://{NAMESPACE}/schema"
KEYED = f"persistent://{NAMESPACE}/keyed"


def says(*words):
    """All these words are printed."""

    def check(test, output):
        for word in words:
            test.assertIn(word, output.text)

    return check


def refused(words):
    return says("Reason:", words)


def exactly(text):
    return lambda test, output: test.assertEqual(output.plain(), text)


def lists(*items):
    """These lines are among those printed."""

    def check(test, output):
        lines = [line.strip() for line in output.lines]
        for item in items:
            test.assertIn(item, lines)

    return check


def silent(test, output):
    test.assertNotIn("Reason:", output.text)
    test.assertNotIn("HTTP ", output.text)


def something(test, output):
    silent(test, output)
    test.assertTrue(output.plain())


def shows(**wanted):
    """The JSON has these fields; a nested dictionary is looked at in the same way."""

    def within(test, wanted, found, path):
        test.assertIsInstance(found, dict, path)
        for name, value in wanted.items():
            test.assertIn(name, found, path)
            if isinstance(value, dict):
                within(test, value, found[name], f"{path}.{name}")
            else:
                test.assertEqual(found[name], value, f"{path}.{name}")

    return lambda test, output: within(test, wanted, output.json(), "")


def backlog(count):
    return shows(subscriptions={"s": {"msgBacklog": count}})


STATS = f"admin topics stats {TOPIC}"

STORY = [
    ("admin_clusters__list", "admin clusters list", something),
    ("admin_clusters__health", "admin brokers healthcheck", exactly("ok")),
    ("admin_clusters__version", "admin brokers version", something),
    ("admin_tenants__create", f"admin tenants create {TENANT}", silent),
    ("admin_tenants__list", "admin tenants list", lists(TENANT)),
    ("admin_tenants__get", f"admin tenants get {TENANT}", shows(adminRoles=[])),
    ("admin_namespaces__create", f"admin namespaces create {NAMESPACE}", silent),
    ("admin_namespaces__list", f"admin namespaces list {TENANT}", lists(NAMESPACE)),
    ("admin_policies__set_retention", f"admin namespaces set-retention -t 1h -s 100M {NAMESPACE}", silent),
    (
        "admin_policies__get_retention",
        f"admin namespaces get-retention {NAMESPACE}",
        shows(retentionTimeInMinutes=60, retentionSizeInMB=100),
    ),
    ("admin_policies__set_ttl", f"admin namespaces set-message-ttl --messageTTL 3600 {NAMESPACE}", silent),
    ("admin_policies__get_ttl", f"admin namespaces get-message-ttl {NAMESPACE}", exactly("3600")),
    ("admin_policies__set_deduplication", f"admin namespaces set-deduplication --enable {NAMESPACE}", silent),
    (
        "admin_policies__as_a_whole",
        f"admin namespaces policies {NAMESPACE}",
        shows(
            retention_policies={"retentionTimeInMinutes": 60, "retentionSizeInMB": 100},
            message_ttl_in_seconds=3600,
            deduplicationEnabled=True,
        ),
    ),
    ("admin_policies__remove_ttl", f"admin namespaces remove-message-ttl {NAMESPACE}", silent),
    ("admin_topics__create", f"admin topics create {TOPIC}", silent),
    ("admin_topics__create_twice", f"admin topics create {TOPIC}", refused("already exists")),
    ("admin_topics__list", f"admin topics list {NAMESPACE}", lists(TOPIC)),
    ("admin_lookup__of_a_topic", f"admin topics lookup {TOPIC}", says("pulsar://127.0.0.1:")),
    ("admin_partitions__create", f"admin topics create-partitioned-topic -p 2 {PARTITIONED}", silent),
    (
        "admin_partitions__get",
        f"admin topics get-partitioned-topic-metadata {PARTITIONED}",
        shows(partitions=2),
    ),
    ("admin_partitions__grow", f"admin topics update-partitioned-topic -p 3 {PARTITIONED}", silent),
    ("admin_partitions__list", f"admin topics list-partitioned-topics {NAMESPACE}", lists(PARTITIONED)),
    (
        "admin_stats__of_a_partitioned_topic",
        f"admin topics partitioned-stats --per-partition {PARTITIONED}",
        shows(metadata={"partitions": 3}),
    ),
    ("admin_subscriptions__create", f"admin topics create-subscription -s s -m earliest {TOPIC}", silent),
    ("admin_subscriptions__list", f"admin topics subscriptions {TOPIC}", lists("s")),
    (
        "send__by_pulsar_client",
        f"client produce --disable-batching -m hello -n 10 {TOPIC}",
        says("10 messages successfully produced"),
    ),
    ("admin_stats__of_a_topic", STATS, shows(msgInCounter=10, subscriptions={"s": {"msgBacklog": 10}})),
    (
        "admin_internal_stats__of_a_topic",
        f"admin topics stats-internal {TOPIC}",
        shows(numberOfEntries=10, state="LedgerOpened"),
    ),
    ("admin_peek__some", f"admin topics peek-messages -s s -n 3 {TOPIC}", says("hello")),
    ("admin_last_message_id__of_a_topic", f"admin topics last-message-id {TOPIC}", shows(entryId=9)),
    ("admin_skip__some", f"admin topics skip -s s -n 4 {TOPIC}", silent),
    ("admin_skip__what_is_left", STATS, backlog(6)),
    ("admin_skip__all", f"admin topics clear-backlog -s s {TOPIC}", silent),
    ("admin_skip__nothing_is_left", STATS, backlog(0)),
    ("admin_reset_cursor__by_time", f"admin topics reset-cursor -s s -t 1h {TOPIC}", silent),
    ("admin_reset_cursor__all_is_back", STATS, backlog(10)),
    ("admin_expire__nothing_is_old_enough", f"admin topics expire-messages -s s -t 3600 {TOPIC}", silent),
    ("admin_expire__all_is_still_there", STATS, backlog(10)),
    ("admin_unload__a_topic", f"admin topics unload {TOPIC}", silent),
    ("admin_unload__nothing_was_lost", STATS, backlog(10)),
    ("admin_unload__a_namespace", f"admin namespaces unload {NAMESPACE}", silent),
    (
        "flow__consume_by_pulsar_client",
        f"client consume -s s -n 10 -p Earliest {TOPIC}",
        says("content:hello", "10 messages successfully consumed"),
    ),
    ("admin_compaction__messages", f"client produce -k a -m one,two -n 2 {KEYED}", says("successfully produced")),
    ("admin_compaction__trigger", f"admin topics compact {KEYED}", says("Topic compaction requested")),
    (
        "admin_compaction__state",
        f"admin topics compaction-status --wait-complete {KEYED}",
        says("Compaction was a success"),
    ),
    ("admin_schemas__none", f"admin schemas get {SCHEMA_TOPIC}", refused("not found")),
    ("admin_schemas__upload", f"admin schemas upload -f SCHEMA_FILE {SCHEMA_TOPIC}", silent),
    ("admin_schemas__get", f"admin schemas get {SCHEMA_TOPIC}", says('"AVRO"', '"version"', "Thing")),
    ("admin_schemas__delete", f"admin schemas delete {SCHEMA_TOPIC}", silent),
    ("admin_subscriptions__delete", f"admin topics unsubscribe -s s {TOPIC}", silent),
    ("admin_subscriptions__none", f"admin topics subscriptions {TOPIC}", exactly("")),
    ("admin_terminate__a_topic", f"admin topics terminate {TOPIC}", says("Topic successfully terminated at")),
    ("admin_errors__a_topic_that_is_not_there", f"admin topics stats {TOPIC}-not", refused("not found")),
    ("admin_topics__delete", f"admin topics delete -f {TOPIC}", silent),
    ("admin_partitions__delete", f"admin topics delete-partitioned-topic -f {PARTITIONED}", silent),
    ("delete_topic__also_when_it_was_compacted", f"admin topics delete -f {KEYED}", silent),
    ("admin_namespaces__delete", f"admin namespaces delete --force {NAMESPACE}", silent),
    ("admin_tenants__delete", f"admin tenants delete {TENANT}", silent),
    ("admin_tenants__is_gone", f"admin tenants get {TENANT}", refused("not exist")),
]

SCHEMA = """{
  "type": "AVRO",
  "schema": "{\\"type\\":\\"record\\",\\"name\\":\\"Thing\\",\\"fields\\":[{\\"name\\":\\"id\\",\\"type\\":\\"long\\"}]}",
  "properties": {}
}"""


class AdminTest(unittest.TestCase):
    """The steps run once, in order; each test looks at the output of its own."""

    @classmethod
    def setUpClass(cls):
        workplace = Workplace()
        cls.addClassCleanup(workplace.close)
        schema = str(workplace.file("schema.json", SCHEMA))
        outputs = workplace.shell([command.replace("SCHEMA_FILE", schema) for _, command, _ in STORY])
        cls.outputs = {name: output for (name, _, _), output in zip(STORY, outputs)}


def step(name, command, check):
    def test(self):
        output = self.outputs[name]
        try:
            check(self, output)
        except (AssertionError, ValueError) as failure:
            raise AssertionError(f"{command}\nprinted:\n{output.text}\n{failure}") from failure

    return test


for step_name, step_command, step_check in STORY:
    setattr(AdminTest, f"test_{step_name}", step(step_name, step_command, step_check))


class ExitCodeTest(unittest.TestCase):
    """What the shell cannot show: a command's exit code."""

    def setUp(self):
        self.workplace = Workplace()
        self.addCleanup(self.workplace.close)

    def test_admin_clusters__exit_code_of_success(self):
        output = self.workplace.run("pulsar-admin", "clusters", "list")
        self.assertEqual(output.code, 0, output.text)
        self.assertTrue(output.plain())

    def test_admin_errors__exit_code_of_failure(self):
        output = self.workplace.run("pulsar-admin", "topics", "stats", f"persistent://public/default/{unique('no')}")
        self.assertEqual(output.code, 1, output.text)
        self.assertIn("not found", output.text)


if __name__ == "__main__":
    unittest.main()
