"""The mutants: what to find in a file (exactly once), what to put there, and the rule that this breaks."""

from __future__ import annotations

from dataclasses import dataclass

#: how to look for the failure: the enumeration until the first one (with words, only at such a call or in such a
#: way), the core's own walk, or a file of tests
CRASH = "crash"
CORE = "tests/core/test_properties.py::test_every_offset_has_its_one_right_fate_whatever_happens_on_the_way"
FOUND = "tests/crash/test_found.py"
FINISHERS = "tests/crash/test_finishers.py"
REFUSED = "tests/crash/test_refused.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    rule: str
    file: str
    find: str
    put: str
    by: str = CRASH
    #: a second place in the same file, where the rule is kept twice
    also: tuple[str, str] | None = None


#: design.md, "These variants fail it"
KNOWN = [
    Mutant(
        "check, then rename",
        "S4 is one transaction: a name found free may be taken a moment later",
        "commit.py",
        "        if store.put_if_absent(path, data, tmp):\n",
        "        if store.stat(path) is None and (store.delete(path), store.put_if_absent(path, data, tmp))[1]:\n",
        f"{CRASH} pause delete",
    ),
    Mutant(
        "list before fencing",
        "who claims has read the entry just before its own",
        "commit.py",
        "    head = append(store, entry)\n    return _join",
        "    try:\n        head = append(store, entry)\n    except Fenced:\n"
        "        now = read_head(store, pid)\n"
        "        state = entry.state\n"
        "        entry = ledger.claim(now, owner=owner.name, at=owner.clock(), config=owner.config)\n"
        "        import dataclasses\n"
        "        head = append(store, dataclasses.replace(entry, state=state))\n"
        "    return _join",
        f"{CRASH} pause",
    ),
    Mutant(
        "restart at the largest offset",
        "a restart reads from C, below offsets that are decided already",
        "core/partition.py",
        "return [Start(event.head.state.committed)]",
        "return [Start(event.head.state.position)]",
    ),
    Mutant(
        "commit before publish",
        "S6 comes after S5",
        "commit.py",
        "    publish(store, head.entry, progress=progress)\n    return head",
        "    return head",
    ),
    Mutant(
        "overwriting rename",
        "no call replaces a file",
        "store/local.py",
        "                os.link(tmp, final)\n",
        "                os.replace(tmp, final)\n",
    ),
    Mutant(
        "no reading back",
        "a taken number is ours only if the entry there is ours",
        "commit.py",
        "    found = read_entry(store, entry.pid, entry.seq)\n",
        "    found = Head(entry, hashlib.sha256(data).hexdigest())\n",
    ),
    Mutant(
        "tmp removed early",
        "what is in tmp may be decided",
        "commit.py",
        "        publish(store, head.entry, progress=progress)\n        entry = ledger.claim",
        '        store.delete(f"{store.root}/{layout.tmp_path(pid, str())}".rstrip("/"))\n'
        "        publish(store, head.entry, progress=progress)\n        entry = ledger.claim",
        f"{CRASH} delay publish",
    ),
]

PROTOCOL = [
    Mutant(
        "publish before decide",
        "S5 comes after S4",
        "commit.py",
        "    head = append(store, decision.entry)\n",
        "    publish(store, decision.entry)\n    head = append(store, decision.entry)\n",
    ),
    Mutant(
        "tmp used again",
        "after an error a tmp name is given up",
        "commit.py",
        'layout.tmp_path(pid, f"{first:019d}-{uuid.uuid4().hex}")',
        'layout.tmp_path(pid, f"{first:019d}")',
        f"{CRASH} pause",
    ),
    Mutant(
        "a failed upload believed",
        "only a verified upload is decided",
        "commit.py",
        '    length = store.upload(file.path, f"{store.root}/{tmp}", progress=progress)\n',
        "    length = file.size\n    try:\n"
        '        store.upload(file.path, f"{store.root}/{tmp}", progress=progress)\n'
        "    except Unreachable:\n        pass\n",
        f"{CRASH} fail upload",
    ),
    Mutant(
        "claim without publishing",
        "S1 publishes what the last decision left in tmp",
        "commit.py",
        "        publish(store, head.entry, progress=progress)\n        entry = ledger.claim",
        "        entry = ledger.claim",
        f"{CRASH} kill publish",
    ),
    Mutant(
        "commit the position",
        "Kafka is told C, never the position",
        "core/partition.py",
        "return Commit(state.committed, state.leader_epoch, body)",
        "return Commit(state.position, state.leader_epoch, body)",
    ),
    Mutant(
        "a freed number taken",
        "an entry counts while the one before it is there",
        "commit.py",
        "    if not linked:\n",
        "    if False:\n",
        FOUND,
    ),
    Mutant(
        "newest entries trimmed",
        "retention keeps what a finisher has to read",
        "commit.py",
        "    needed = min([head.entry.seq, *head.state.unfinished.values()])\n",
        "    needed = head.entry.seq + 1\n",
        FOUND,
    ),
]

FINISH = [
    Mutant(
        "marker before the last rename",
        "S7d comes last",
        "finish/run.py",
        "    publish_left(store, plan)\n    progress",
        "    mark(store, plan)\n    publish_left(store, plan)\n    progress",
    ),
    Mutant(
        "merge blindly repeated",
        "the length of the first part says how far a merge came",
        "finish/run.py",
        "    return ends.index(status.length) + 1\n",
        "    return 1\n",
    ),
    Mutant(
        "swept before revealed",
        "parts go when the file that holds them shows",
        "finish/run.py",
        "    publish_left(store, plan)\n    progress",
        "    publish_left(store, plan)\n    sweep(store, plan)\n    progress",
    ),
    Mutant(
        "one partition is enough",
        "an hour is due when every partition has closed it",
        "finish/follow.py",
        "        return min(known) if known and len(known) == len(frontiers) else None\n",
        "        return max(known) if known else None\n",
        also=(
            "            if closing is None:\n                raise",
            "            if closing is None:\n                continue\n                raise",
        ),
    ),
    Mutant(
        "unread chains forgotten",
        "an hour waits for partitions that have no ledger yet",
        "finish/follow.py",
        "        if self._unread(self._first):\n",
        "        if self._first < 0:\n",
    ),
    Mutant(
        "a chain that begins forgotten",
        "an hour waits for a partition whose first entry is being written",
        "finish/follow.py",
        "self._listed.union(range(first))",
        "range(first)",
        "tests/finish/test_follow.py",
    ),
    Mutant(
        "nothing done after another's marker",
        "a finisher may have died right after its marker",
        "finish/run.py",
        "        tidy(store, wanted)\n        return None\n",
        "        return None\n",
    ),
    Mutant(
        "a part that is gone is lost",
        "where the first part is gone, the revealed file is looked at",
        "finish/run.py",
        "    if status is None:\n        return None\n    ends =",
        '    if status is None:\n        raise Stopped("gone")\n    ends =',
        FINISHERS,
    ),
    Mutant(
        "knowledge goes back",
        "what is known to be finished never goes back",
        "core/router.py",
        "        if until is not None and (self.finished_until is None or until > self.finished_until):\n",
        "        if until is not None:\n",
        FOUND,
    ),
    Mutant(
        "claimed though it is gone",
        "what went again within the poll that brought it is not claimed",
        "daemon/worker.py",
        "        parts = [part for part in parts if part in self._tools.source.owned]\n",
        "        parts = list(parts)\n",
        FOUND,
    ),
    Mutant(
        "copied from the beginning",
        "where concat is refused in the middle, the first part holds some of the others",
        "finish/run.py",
        "for part in file.parts[done:])]",
        "for part in file.parts[1:])]",
        REFUSED,
    ),
    Mutant(
        "followers swept first",
        "a first part that is there has its followers there, or in it",
        "finish/run.py",
        "status.name not in firsts",
        "status.name in firsts",
        REFUSED,
    ),
    Mutant(
        "tmp of a copied part left",
        "what a finished hour holds cannot be published again",
        "finish/run.py",
        "    if not store.can_concat:\n",
        "    if False:\n",
        FOUND,
    ),
]

CORE_RULES = [
    Mutant(
        "C as a maximum",
        "C is the minimum over open parts",
        "core/router.py",
        "        committed = self.position if oldest is None else oldest.first\n",
        "        committed = self.position\n",
        CORE,
    ),
    Mutant(
        "a rejected record moves the watermark",
        "only accepted records move it",
        "core/router.py",
        "        time = rows.kafka_times[i] if 0 <=",
        "        self._accept(rows.times[i], offset, now)\n        time = rows.kafka_times[i] if 0 <=",
        CORE,
    ),
    Mutant(
        "boundary recomputed",
        "a replay begins with the watermark at C",
        "core/router.py",
        "        self.watermark = state.watermark\n",
        "        self.watermark = state.seen\n",
        CORE,
    ),
    Mutant(
        "decided twice",
        "a replay skips what is decided",
        "core/router.py",
        "        if rows.offsets[start] < self._fresh_from:\n",
        "        if rows.offsets[start] < 0:\n",
        CORE,
    ),
    Mutant(
        "rejections forgotten",
        "a rejected record does not move the watermark in a replay either",
        "core/router.py",
        "                rejected = rejected | part.offsets\n",
        "                pass\n",
        "tests/core/test_router.py",
    ),
    Mutant(
        "closed without its last part",
        "an hour closes together with its last part",
        "core/router.py",
        "            or (kind is Kind.HOUR and self.frontier is not None and hour",
        "            or (kind is Kind.LATE and self.frontier is not None and hour",
        CORE,
    ),
    Mutant(
        "the future believed",
        "a record far ahead of its Kafka time closes nothing",
        "core/router.py",
        "        return min(against + self.rules.max_future_ms, END_OF_TIME_MS - 1)\n",
        "        return END_OF_TIME_MS - 1\n",
        CORE,
    ),
    Mutant(
        "gaps not recorded",
        "C passes no offset without a fate",
        "core/router.py",
        "            self.gaps.add_run(start, end)\n",
        "            pass\n",
        CORE,
    ),
    Mutant(
        "an hour closes without lateness",
        "records are accepted until the lateness has passed",
        "core/router.py",
        "        passed = watermark - self.rules.lateness_ms\n",
        "        passed = watermark\n",
        CORE,
    ),
]

THREADS = [
    Mutant(
        "settled before its last chunk",
        "a part's file has every line of it",
        "spool/spool.py",
        "        with self._lock:\n            # Together with the last chunk:",
        "        part.closing = closing or part.closing\n"
        "        with self._lock:\n            # Together with the last chunk:",
        "tests/spool/test_spool.py",
    ),
    Mutant(
        "a spool's file believed",
        "what was uploaded is as long as what was written",
        "commit.py",
        "    if length != file.size:\n",
        "    if False:\n",
        "tests/reconcile/test_repair.py",
    ),
    Mutant(
        "a look that takes",
        "an hour has each part once, whatever of a look failed",
        "finish/follow.py",
        "            later.append(after)\n",
        "            chain.take(after)\n",
        "tests/finish/test_follow.py",
    ),
    Mutant(
        "a revoked partition claimed",
        "who gave a partition up fences nobody",
        "daemon/slot.py",
        "            if self.machine.life != life:\n                # by now",
        "            if False:\n                # by now",
        "tests/daemon/test_slot.py",
    ),
]

CHANGES = [
    Mutant(
        "a later leader's records taken for repeats",
        "what is not in the log any more is noticed (K9)",
        "core/router.py",
        "            if again and rows.leader_epoch > self._claimed_epoch >= 0:\n",
        "            if False:\n",
        "tests/core/test_router.py",
    ),
    Mutant(
        "a replay believes any time",
        "what was decided closes no more than it did then",
        "core/router.py",
        "            if then and offset not in",
        "            if offset not in",
        "tests/core/test_router.py",
    ),
    Mutant(
        "hidden in an early hour",
        "a marker stands beside no hidden part",
        "finish/plan.py",
        "        files = _each_alone(parts)\n",
        "        files = [File(part.name, (part,)) for part in parts]\n",
        "tests/finish/test_run.py",
    ),
    Mutant(
        "two windows",
        "all partitions of a topic have hours of one length (C2)",
        "commit.py",
        "        check_window(pid, window_ms, first.window_ms)\n",
        "        pass\n",
        "tests/crash/test_claims.py",
    ),
]

MUTANTS = [*KNOWN, *PROTOCOL, *FINISH, *CORE_RULES, *THREADS, *CHANGES]
