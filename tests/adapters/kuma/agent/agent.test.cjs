"use strict";
// What the agent does where there is no Kuma: when it acts at all, whose socket it takes, and what
// it makes of garbage. Run by `node --test`; test_agent_file.py does that.

const assert = require("node:assert");
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const { afterEach, test } = require("node:test");

const AGENT = path.resolve(__dirname, "../../../../replicator_kuma/adapters/kuma/agent/agent.cjs");
const STAY = "setInterval(() => undefined, 1000);";
const cleanups = [];

afterEach(() => {
    while (cleanups.length > 0) cleanups.pop()();
});

/** A folder with files; its path. */
function folder(files) {
    const made = fs.mkdtempSync(path.join(os.tmpdir(), "ra-"));
    cleanups.push(() => fs.rmSync(made, { recursive: true, force: true }));
    for (const [name, text] of Object.entries(files)) {
        fs.mkdirSync(path.dirname(path.join(made, name)), { recursive: true });
        fs.writeFileSync(path.join(made, name), text);
    }
    return made;
}

/** Run a file of a folder with the agent; `ended` is its exit code and what it wrote. */
function run(place, file, environment = {}) {
    const child = spawn(process.execPath, ["--require", AGENT, file], {
        cwd: place,
        env: { PATH: process.env.PATH, ...environment },
    });
    let output = "";
    child.stdout.on("data", (data) => (output += data));
    child.stderr.on("data", (data) => (output += data));
    cleanups.push(() => child.kill("SIGKILL"));
    const ended = new Promise((done) => child.on("close", (code) => done({ code, output })));
    return { child, ended, output: () => output };
}

async function until(condition, what) {
    for (const end = Date.now() + 20e3; Date.now() < end; ) {
        if (condition()) return;
        await new Promise((done) => setTimeout(done, 10));
    }
    assert.fail(`not in time: ${what}`);
}

/** Send bytes; all lines of the answer, until `count` came or the other side closed. */
function talk(socket, bytes, count = 1) {
    return new Promise((done, fail) => {
        const connection = net.connect(socket);
        let text = "";
        const lines = () => text.split("\n").slice(0, -1).map((line) => JSON.parse(line));
        connection.on("connect", () => connection.write(bytes));
        connection.on("data", (data) => {
            text += data;
            if (lines().length >= count) {
                connection.destroy();
                done({ lines: lines(), closed: false });
            }
        });
        connection.on("error", (error) => error.code === "ECONNREFUSED" && fail(error));
        connection.on("close", () => done({ lines: lines(), closed: true }));
        setTimeout(() => fail(new Error("no answer")), 15e3).unref();
    });
}

function hello(socket) {
    return talk(socket, '{"id":1,"do":"hello"}\n').then(({ lines }) => lines[0]);
}

/** A process with the agent at work, in a tree that is no Kuma. */
async function serving(text = STAY) {
    const place = folder({ "server/server.js": text, "package.json": '{"version":"9.9.9"}' });
    const socket = path.join(place, "s");
    const process = run(place, "server/server.js", { REPLICATOR_AGENT_SOCKET: socket });
    await until(() => fs.existsSync(socket), "the socket");
    return { place, socket, process };
}

/* ------------------------------------------------------------------ when it acts */

const SAY = 'console.log("ran", process.listenerCount("exit")); setTimeout(() => undefined, 200);';

for (const [name, file, named] of [
    ["without its variable", "server/server.js", false],
    ["in another main file", "server/index.js", true],
    ["in a server.js elsewhere", "extra/server.js", true],
]) {
    test(`${name} it does nothing`, async () => {
        const place = folder({ [file]: SAY });
        const socket = path.join(place, "s");
        const environment = named ? { REPLICATOR_AGENT_SOCKET: socket } : {};
        const { code, output } = await run(place, file, environment).ended;
        assert.deepStrictEqual([code, output], [0, "ran 0\n"]);
        assert.ok(!fs.existsSync(socket));
    });
}

test("children and workers of Kuma have it loaded, and it does nothing there", async () => {
    const text = `
        const { fork } = require("child_process");
        const { Worker } = require("worker_threads");
        fork(__dirname + "/child.js");
        new Worker(__dirname + "/child.js");
        ${STAY}`;
    const place = folder({ "server/server.js": text, "server/child.js": 'console.log("ran");' });
    const socket = path.join(place, "s");
    const kuma = run(place, "server/server.js", {
        REPLICATOR_AGENT_SOCKET: socket,
        NODE_OPTIONS: `--require=${AGENT}`,
    });
    await until(() => kuma.output() === "ran\nran\n", "both have run");
    assert.strictEqual((await hello(socket)).pid, kuma.child.pid);
    assert.strictEqual(kuma.output(), "ran\nran\n", "nor does one of them complain");
});

test("a Node that is too old runs Kuma as if it were not there", async () => {
    const place = folder({ "server/server.js": SAY });
    const old = path.join(place, "old.cjs");
    fs.writeFileSync(old, 'Object.defineProperty(process.versions, "node", { value: "12.22.0" });');
    const socket = path.join(place, "s");
    const { code, output } = await run(place, "server/server.js", {
        REPLICATOR_AGENT_SOCKET: socket,
        NODE_OPTIONS: `--require=${old}`,
    }).ended;
    assert.deepStrictEqual([code, output], [0, "ran 0\n"]);
    assert.ok(!fs.existsSync(socket));
});

test("a tree that is no Kuma is told, and harmed in nothing", async () => {
    const { socket, process } = await serving();
    const answer = await hello(socket);
    assert.strictEqual(answer.version, "9.9.9");
    assert.strictEqual(answer.phase, "loading");
    for (const name of ["agent", "server", "rows", "monitor", "settings"]) {
        assert.ok(answer.missing.includes(name), name);
    }
    const { lines } = await talk(socket, '{"id":2,"do":"reconcile"}\n');
    assert.deepStrictEqual(lines, [{ id: 2, ok: false, error: "not ready: loading" }]);
    assert.strictEqual(process.output(), "");
});

test("hello tells the digest of the file that runs, also when another lies there", async () => {
    const { createHash } = require("node:crypto");
    const { socket } = await serving();
    const sum = createHash("sha256").update(fs.readFileSync(AGENT)).digest("hex");
    assert.strictEqual((await hello(socket)).sha, sum);
});

/* ------------------------------------------------------------------ whose socket */

test("only its owner may open the socket", async () => {
    const { socket } = await serving("process.umask(0);" + STAY);
    assert.strictEqual(fs.lstatSync(socket).mode & 0o777, 0o600);
});

test("the socket does not keep a process alive, and goes with it", async () => {
    const place = folder({ "server/server.js": "setTimeout(() => undefined, 500);" });
    const socket = path.join(place, "s");
    const kuma = run(place, "server/server.js", { REPLICATOR_AGENT_SOCKET: socket });
    await until(() => fs.existsSync(socket), "the socket");
    const open = net.connect(socket);
    open.on("error", () => undefined);
    assert.strictEqual((await kuma.ended).code, 0);
    assert.ok(!fs.existsSync(socket));
});

test("a socket of a living process stays its own", async () => {
    const { place, socket, process: first } = await serving();
    const second = run(place, "server/server.js", { REPLICATOR_AGENT_SOCKET: socket });
    await until(() => second.output().includes("\n"), "it says so");
    const said = second.output();
    assert.match(said, /^replicator-kuma agent: cannot serve .*: another process serves it\n$/);
    assert.strictEqual((await hello(socket)).pid, first.child.pid);
    second.child.kill("SIGTERM");
    await second.ended;
    assert.strictEqual((await hello(socket)).pid, first.child.pid, "nor is it removed at exit");
});

test("a socket that a killed process has left is taken over", async () => {
    const { place, socket, process: first } = await serving();
    first.child.kill("SIGKILL");
    await first.ended;
    assert.ok(fs.lstatSync(socket).isSocket());
    const second = run(place, "server/server.js", { REPLICATOR_AGENT_SOCKET: socket });
    let answer;
    await until(() => {
        hello(socket).then((found) => (answer = found), () => undefined);
        return answer;
    }, "the second serves it");
    assert.strictEqual(answer.pid, second.child.pid);
});

for (const [name, put] of [
    ["a file", (at) => fs.writeFileSync(at, "precious")],
    ["a folder", (at) => fs.mkdirSync(at)],
    ["a link to a file", (at) => fs.symlinkSync("server/server.js", at)],
]) {
    test(`${name} in its place stays, and is told once`, async () => {
        const place = folder({ "server/server.js": STAY });
        const socket = path.join(place, "s");
        put(socket);
        const before = fs.lstatSync(socket);
        const kuma = run(place, "server/server.js", { REPLICATOR_AGENT_SOCKET: socket });
        await until(() => kuma.output().includes("\n"), "it says so");
        const after = fs.lstatSync(socket);
        assert.deepStrictEqual([after.ino, after.mode], [before.ino, before.mode]);
        assert.match(kuma.output(), /^replicator-kuma agent: cannot serve [^\n]*\n$/);
    });
}

test("a folder that is not there is told, and Kuma runs on", async () => {
    const place = folder({ "server/server.js": STAY });
    const socket = path.join(place, "none", "s");
    const kuma = run(place, "server/server.js", { REPLICATOR_AGENT_SOCKET: socket });
    await until(() => kuma.output().includes("\n"), "it says so");
    assert.match(kuma.output(), /^replicator-kuma agent: cannot serve [^\n]*\n$/);
    assert.strictEqual(kuma.child.exitCode, null);
});

/* ------------------------------------------------------------------ garbage */

test("what is no request ends the connection, and only that", async () => {
    const { socket } = await serving();
    for (const bytes of [
        "\n",
        "hello\n",
        "[]\n",
        "null\n",
        "7\n",
        '{"do":"hello"}\n',
        '{"id":"1","do":"hello"}\n',
        '{"id":1.5,"do":"hello"}\n',
        Buffer.from([0xff, 0x00, 0xfe, 0x0a]),
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ]) {
        const { lines, closed } = await talk(socket, bytes);
        assert.deepStrictEqual([lines, closed], [[], true], String(bytes));
    }
    assert.strictEqual((await hello(socket)).ok, true);
});

test("a line without an end is cut off", async () => {
    const { socket } = await serving();
    const { closed } = await talk(socket, "x".repeat(3 << 20));
    assert.ok(closed);
    assert.strictEqual((await hello(socket)).ok, true);
});

test("requests that mean nothing get an error", async () => {
    const { socket } = await serving();
    for (const [members, error] of [
        [{ do: "eval", code: "1" }, "unknown request"],
        [{ do: "constructor" }, "unknown request"],
        [{}, "unknown request"],
        [{ do: "hello", more: 1 }, "bad member: more"],
        [{ do: "hello", "<script>": 1 }, "bad member: ?script?"],
        [{ do: "holds", ids: [1] }, "bad member: ids"],
        [{ do: "reconcile", ids: "1" }, "bad member: ids"],
        [{ do: "reconcile", ids: ["1"] }, "bad member: ids"],
        [{ do: "reconcile", ids: [1.5] }, "bad member: ids"],
        [{ do: "reconcile", replaced: [{}] }, "bad member: replaced"],
        [{ do: "reconcile", rows: 1 }, "bad member: rows"],
        [{ do: "reconcile", beat: "never" }, "bad member: beat"],
        [{ do: "reconcile", sql: "DELETE" }, "bad member: sql"],
    ]) {
        const { lines } = await talk(socket, `${JSON.stringify({ id: 3, ...members })}\n`);
        assert.deepStrictEqual(lines, [{ id: 3, ok: false, error }]);
    }
});

test("requests may come in pieces, and several at once", async () => {
    const { socket } = await serving();
    const connection = net.connect(socket);
    let text = "";
    connection.on("data", (data) => (text += data));
    const pieces = ['{"id":1,"do":"hel', 'lo"}\n{"id":2,"do":"hello"}\n{"id":3', ',"do":"x"}\n'];
    for (const piece of pieces) {
        connection.write(piece);
        await new Promise((done) => setTimeout(done, 20));
    }
    await until(() => text.split("\n").length === 4, "three answers");
    const answers = text.trim().split("\n").map((line) => JSON.parse(line));
    const ids = answers.map(({ id, ok }) => [id, ok]);
    assert.deepStrictEqual(ids, [[1, true], [2, true], [3, false]]);
    connection.destroy();
});

test("a crowd of connections does not grow without an end", async () => {
    const { socket } = await serving();
    const crowd = Array.from({ length: 30 }, () => net.connect(socket));
    let closed = 0;
    for (const each of crowd) each.on("error", () => undefined).on("close", () => closed++);
    await until(() => closed === 22, "eight stay");
    for (const each of crowd) each.destroy();
    await until(() => closed === 30, "they are gone");
    assert.strictEqual((await hello(socket)).ok, true);
});
