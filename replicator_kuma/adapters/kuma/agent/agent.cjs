"use strict";
/*
 * The agent of replicator-kuma: it makes the memory of a running Uptime Kuma equal to its rows.
 *
 * `node --require agent.cjs server/server.js` loads it into Kuma's process. The replicator writes
 * rows in one transaction, then says `reconcile` over a Unix socket; `hello` tells what this
 * process can do, `holds` what it holds. Nothing here writes to the database.
 *
 * Three rules:
 * - Nothing is thrown into Kuma. Each hook calls what it replaced, whatever happens before.
 * - Every wait has an end.
 * - A capability counts once it was seen to work in this very process. What fails is named in
 *   `missing`, and the replicator restarts Kuma as it did without an agent.
 *
 * "Bean" is the word of Kuma's ORM (redbean-node) for a row as an object. A monitor's bean runs
 * its own loop: check, store the beat, set the timer `heartbeatInterval`, and so on.
 *
 * The syntax is ES2019, on purpose: a Node that is too old for Kuma can parse it and sees it do
 * nothing. Long because a file that has to be put beside Kuma is one file.
 */

const fs = require("fs");
const net = require("net");
const path = require("path");
const { createHash } = require("crypto");
const { createRequire } = require("module");

const PROTOCOL = 1;
const OLDEST_NODE = 14;
const SOCKET = process.env.REPLICATOR_AGENT_SOCKET || "";
// "on", or the versions of Kuma on which a fast start is wanted
const FAST_START = (process.env.REPLICATOR_FAST_START || "off").split(" ");

const MAX_ROUNDS = 6;
const PAGE = 200; // rows; with 500 the event loop stood still for 0.69 s at 5,000 monitors
const SIDE_BY_SIDE = 4; // reads of single monitors, and early beats
const LONGEST_CHECK = 90e3; // ms that a reconcile waits for a check in flight
const EARLY_BEAT = 250; // ms after which the next early beat may begin beside this one
const STARTS_AT_ONCE = 20; // more new monitors than these begin at the pace of a fast start
const STARTS_A_SECOND = 12;
const STARTS_A_SECOND_AND_HOST = 2;
const STARTUP_LIST = 20e3; // ms from listening until start-up must have read its monitors
const MAX_LINE = 1 << 20; // bytes of one request: the ids of 100,000 monitors
const MAX_CONNECTIONS = 8;
const MAX_IN_LINE = 8;
const LONGEST_PATH = 107; // bytes
const IDLE_CONNECTION = 600e3; // ms
const LONGEST_DISOWNED = 3600e3; // ms; a check without a time limit may take long
const NOBODY = -1; // an id that no row has

const DOWN = 0;
const PENDING = 2;

// Kuma writes these itself: dns_last_result at a check; whether a monitor is active is its loop.
const RUNTIME = { monitor: ["dns_last_result", "active"], maintenance: ["last_start_date"] };
// Kuma fills these in memory where a row leaves them empty, and stores nothing.
const FILLED = {
    monitor: ["timeout", "mqtt_check_type"],
    maintenance: ["cron", "duration", "timezone"],
};
const LINKS =
    "SELECT mt.*, tag.name, tag.color FROM monitor_tag mt JOIN tag ON mt.tag_id = tag.id";

/* ------------------------------------------------------------------ activation */

const begunAt = Date.now();
const main = path.resolve(process.argv[1] || "");

if (isKuma()) {
    // server.js then has loaded its modules, and its event loop has not turned yet
    setImmediate(() => {
        attempt(install);
        attempt(listen);
    });
}

/** Whether this is the main thread of Kuma's server. Children inherit NODE_OPTIONS. */
function isKuma() {
    return (
        SOCKET !== "" &&
        path.basename(main) === "server.js" &&
        path.basename(path.dirname(main)) === "server" &&
        Number(process.versions.node.split(".")[0]) >= OLDEST_NODE &&
        require("worker_threads").isMainThread
    );
}

/** Call a function; undefined if it throws. */
function attempt(call) {
    try {
        return call();
    } catch (error) {
        return undefined;
    }
}

function pause(ms) {
    return new Promise((done) => setTimeout(done, ms));
}

/* ------------------------------------------------------------------ Kuma's modules */

const kuma = {}; // Kuma's own modules and objects; see MODULES
const missing = new Set(["agent"]); // until install() came to its end

/** What is taken from which module, and the capability that is lost without it. */
const MODULES = [
    ["server", "server", "./uptime-kuma-server", (m) => m.UptimeKumaServer.getInstance()],
    ["R", "rows", "redbean-node", (m) => m.R],
    ["Monitor", "monitor", "./model/monitor", (m) => m],
    ["Maintenance", "maintenance", "./model/maintenance", (m) => m],
    ["StatusPage", "pages", "./model/status_page", (m) => m],
    ["Settings", "settings", "./settings", (m) => m.Settings],
    ["apicache", "cache", "./modules/apicache", (m) => m],
    ["client", "tabs", "./client", (m) => m],
    ["dayjs", "zone", "dayjs", (m) => m],
    ["Prometheus", "metrics", "./prometheus", (m) => m.Prometheus],
    ["prom", "metrics", "prom-client", (m) => m],
    ["hashObject", "metrics", "prom-client/lib/util", (m) => m.hashObject],
];
/** Of these, 2.x has the first and 1.x the second. */
const STATISTICS = [
    ["./uptime-calculator", (m) => m.UptimeCalculator],
    ["./uptime-cache-list", (m) => m.UptimeCacheList],
];

let sha = null; // of this file's bytes: the file may be replaced while Kuma runs

/** Take the modules that Kuma has loaded, hook into them, and begin to prove what works. */
function install() {
    sha = attempt(() => createHash("sha256").update(fs.readFileSync(__filename)).digest("hex"));
    const kumasRequire = createRequire(main);
    const version = attempt(() => fs.readFileSync(path.join(main, "../../package.json"), "utf8"));
    kuma.version = attempt(() => String(JSON.parse(version).version));
    kuma.zone = process.env.TZ; // Kuma sets it too, later; what the environment says wins for good
    kuma.guessedZone = new Intl.DateTimeFormat().resolvedOptions().timeZone;
    for (const [name, capability, file, pick] of MODULES) {
        kuma[name] = loaded(kumasRequire, file, pick);
        if (!kuma[name]) missing.add(capability);
    }
    kuma.Database = loaded(kumasRequire, "./database", (m) => m); // without it "setup" is not told
    for (const [file, pick] of STATISTICS) {
        kuma.statistics = kuma.statistics || loaded(kumasRequire, file, pick);
    }
    proveTimersMove();
    if (missing.has("server") || missing.has("rows") || missing.has("monitor")) return;
    missing.add("proofs"); // until they were made, when the database is open
    hookStart();
    hookMaintenance();
    hookStartupList();
    hookDatabaseReady();
    kuma.server.httpServer.once("listening", () => attempt(onListening));
    hookSignals();
    missing.delete("agent");
}

/** What `pick` takes from a module of Kuma's; undefined unless Kuma itself has loaded it. */
function loaded(kumasRequire, file, pick) {
    return attempt(() => {
        const found = kumasRequire.resolve(file);
        // to load what Kuma has not would run it: only its own instances are of use
        return found in require.cache ? pick(kumasRequire(file)) : undefined;
    });
}

/* ------------------------------------------------------------------ proofs */

/**
 * Each proof does the thing and throws, or returns false, where that has no effect.
 * They run once the database is open. None leaves a row, a metric or a message behind.
 */
const PROOFS = {
    async rows() {
        const [row] = await read("SELECT 1 AS one");
        const none = await read("SELECT id FROM monitor WHERE id = ?", [NOBODY]);
        return Number(row.one) === 1 && Array.isArray(none) && none.length === 0;
    },
    beans() {
        const row = { id: NOBODY, name: "proof", type: "http", retry_interval: 7 };
        const bean = kuma.R.convertToBean("monitor", Object.assign({}, row));
        const same = differences(bean, row).length === 0 && bean.retryInterval === 7;
        copyRow(bean, Object.assign({}, row, { retry_interval: 8 }));
        const moved = differences(bean, row);
        return bean instanceof kuma.Monitor && same && moved.join() === "retry_interval";
    },
    monitor() {
        return isFunction(kuma.Monitor.prototype, "start", "stop");
    },
    server() {
        const { monitorList, maintenanceList, io } = kuma.server;
        return isObject(monitorList) && isObject(maintenanceList) && io.sockets.sockets.size >= 0;
    },
    async maintenance() {
        // a leap day's midnight: no window is open, and run() stores nothing
        const bean = kuma.R.convertToBean("maintenance", {
            id: NOBODY,
            title: "proof",
            strategy: "cron",
            cron: "0 0 29 2 *",
            timezone: "UTC",
            duration: 1,
            active: 1,
        });
        await bean.run();
        const runs = isFunction(bean.beanMeta.job, "stop");
        endMaintenance(bean);
        return runs && !bean.beanMeta.job;
    },
    async settings() {
        const key = "replicatorAgentProof"; // there is no such row
        await kuma.Settings.get(key);
        const cache = kuma.Settings.cacheList;
        const cached = key in cache && cache[key].value === null;
        delete cache[key];
        return cached;
    },
    zone() {
        return isFunction(kuma.dayjs.tz, "setDefault") && isFunction(kuma.server, "getTimezone");
    },
    async pages() {
        const before = kuma.StatusPage.domainMappingList;
        await kuma.StatusPage.loadDomainMappingList();
        const anew = kuma.StatusPage.domainMappingList !== before && Boolean(domainsHeld());
        return anew && isFunction(kuma.StatusPage, "sendStatusPageList");
    },
    cache() {
        kuma.apicache.clear();
        return kuma.apicache.getIndex().all.length === 0;
    },
    async tabs() {
        await tellLists(NOBODY); // a room with nobody in it
        return isFunction(kuma.server, "sendMonitorList");
    },
    statistics() {
        kuma.statistics.list[NOBODY] = {};
        forgetStatistics(NOBODY);
        return !(NOBODY in kuma.statistics.list);
    },
    metrics() {
        const gauge = new kuma.prom.Gauge({
            name: "replicator_agent_proof", help: "proof", labelNames: ["a"], registers: [],
        });
        gauge.labelNames.push("b");
        gauge.set({ a: 1, b: 2 }, 5);
        const kept = gauge.hashMap[kuma.hashObject({ b: 2, a: 1 })].value === 5;
        gauge.remove({ a: 1, b: 2 });
        const gone = Object.keys(gauge.hashMap).length === 0;
        const metrics = new kuma.Prometheus({ id: NOBODY, name: "proof" }, []);
        const labels = metrics.monitorLabelValues.monitor_name === "proof";
        const whole = isFunction(metrics, "update", "remove") && gauges().length >= GAUGES.length;
        return kept && gone && labels && whole;
    },
};

/** Make all proofs, one after another, and note in `missing` what failed. */
async function prove() {
    for (const name of Object.keys(PROOFS)) {
        if (!(await succeeds(PROOFS[name]))) missing.add(name);
    }
    missing.delete("proofs");
}

async function succeeds(proof) {
    try {
        return (await proof()) !== false;
    } catch (error) {
        return false;
    }
}

/** Set a timer far away and move it to now. It has to fire. */
function proveTimersMove() {
    missing.add("timers");
    const timer = setTimeout(() => {
        // what Kuma's beats will look like: destroyed once the callback is over
        setImmediate(() => timer._destroyed === true && missing.delete("timers"));
    }, 1e6);
    timer.unref();
    attempt(() => timer._destroyed === false && moveTimer(timer, 1));
}

let timersProved = false;

/** After the first beat of a real monitor its timer has to be one that waits. */
function proveTimersOfBeats(bean) {
    if (timersProved || attempt(() => bean.type) === "push") return;
    atEndOfCheck(bean, () =>
        setImmediate(() => {
            const took = Date.now() - begun.get(bean);
            // one whose check takes as long as its interval is checking again
            if (bean.isStop || timersProved || took > bean.interval * 1000 - 500) return;
            timersProved = true;
            if (!isArmed(bean)) missing.add("timers");
        }),
    );
}

function isFunction(object, ...names) {
    return Boolean(object) && names.every((name) => typeof object[name] === "function");
}

function isObject(value) {
    return typeof value === "object" && value !== null;
}

/* ------------------------------------------------------------------ hooks */

const begun = new WeakMap(); // bean of a monitor → when its loop began, in ms
const dropped = new WeakSet(); // beans that must not begin any more
const running = new Map(); // id → the bean whose loop runs
let listSeen = false; // start-up has read which monitors it will start
let stopping = false; // a signal came: Kuma stops all monitors
let database = null; // see noteDatabase
let needsSetup = null; // whether this start found no user; null: not known

/** See every start of a monitor: by Kuma's start-up, by a person's edit, by us. */
function hookStart() {
    const prototype = kuma.Monitor.prototype;
    const start = prototype.start;
    if (typeof start !== "function") return;
    prototype.start = function (...rest) {
        if (attempt(() => mayStart(this)) === false) return Promise.resolve();
        const result = start.apply(this, rest);
        // in 2.x `prometheus` is set after a query; the first beat ends later still
        Promise.resolve(result).then(
            () => attempt(() => proveTimersOfBeats(this)),
            () => undefined,
        );
        return result;
    };
}

/** Note the start of a bean; false if it must not start, since its loop would be a second one. */
function mayStart(bean) {
    const listed = kuma.server.monitorList[bean.id];
    // start-up comes to beans that it read long ago
    if (begun.has(bean) || dropped.has(bean) || bean.isStop) return false;
    if (listed && listed !== bean && begun.has(listed)) return false;
    const other = running.get(bean.id);
    if (other && other !== bean && !other.isStop) stopBean(other);
    noteStartupList(); // it fills monitorList before it starts anything
    begun.set(bean, Date.now());
    running.set(bean.id, bean);
    record(bean);
    noteStart(bean);
    beginStartupEarly();
    return true;
}

/** Note what a maintenance was loaded with, each time that it is run. */
function hookMaintenance() {
    const prototype = kuma.Maintenance && kuma.Maintenance.prototype;
    if (!isFunction(prototype, "run")) return;
    const run = prototype.run;
    prototype.run = function (...rest) {
        attempt(() => record(this));
        return run.apply(this, rest);
    };
}

/** See that start-up has read its list: `startMonitors` of server.js is the only one to ask so. */
function hookStartupList() {
    const R = kuma.R;
    const find = R.find;
    R.find = async function (...rest) {
        const list = await find.apply(this, rest);
        if (rest[0] === "monitor" && String(rest[1]).trim() === "active = 1") {
            noteStartupList();
            if (R.find === hooked) attempt(() => delete R.find);
        }
        return list;
    };
    const hooked = R.find;
}

function noteStartupList() {
    listSeen = true;
    missing.delete("startup");
}

/** Ask whether there is a user in the moment in which Kuma does: it never asks again. */
function hookDatabaseReady() {
    const server = kuma.server;
    const ready = server.initAfterDatabaseReady;
    if (typeof ready !== "function") return;
    server.initAfterDatabaseReady = async function (...rest) {
        attempt(() => noteWhetherSetUp().catch(() => undefined));
        return ready.apply(this, rest);
    };
}

async function noteWhetherSetUp() {
    const [row] = await read("SELECT COUNT(*) AS users FROM `user`");
    needsSetup = Number(row.users) === 0;
    if (!needsSetup) return;
    // A person may still set it up in the browser: then Kuma itself stores the user.
    const end = watchStores((bean) => {
        if (bean.getType() !== "user") return false;
        needsSetup = false;
        people = null; // who has just logged in need not do so again
        end();
        return false;
    });
}

const storeWatchers = new Set();

/**
 * Show each row that Kuma is about to store to `watcher`; where it says true, it is not stored.
 * Nothing is hooked while nobody watches. Returns a function that ends it.
 */
function watchStores(watcher) {
    const R = kuma.R;
    storeWatchers.add(watcher);
    if (storeWatchers.size === 1) {
        const store = R.store;
        R.store = async function (bean, ...rest) {
            const drop = [...storeWatchers].some((each) => attempt(() => each(bean)) === true);
            return drop ? 0 : store.call(this, bean, ...rest);
        };
    }
    return () => {
        storeWatchers.delete(watcher);
        if (storeWatchers.size === 0) attempt(() => delete R.store); // its class has the original
    };
}

/**
 * Name the database that is open, so that the replicator knows it for its own: by a digest of the
 * key of Kuma's sessions, which no other instance has.
 */
async function noteDatabase() {
    const [row] = await read("SELECT value FROM setting WHERE `key` = 'jwtSecret'");
    const named = row && createHash("sha256").update(`replicator-kuma ${row.value}`).digest("hex");
    database = named ? named.slice(0, 16) : null;
}

function onListening() {
    prove()
        .then(async () => notePeople(await read(PEOPLE)))
        .then(noteDatabase)
        .catch(() => missing.add("rows"));
    setTimeout(() => listSeen || missing.add("startup"), STARTUP_LIST).unref();
}

/** Kuma stops each monitor before it ends; a reconcile would start them again. */
function hookSignals() {
    for (const signal of ["SIGTERM", "SIGINT"]) {
        // a listener changes what a signal does, unless Kuma has one of its own
        if (process.listenerCount(signal) > 0) {
            process.prependListener(signal, () => {
                stopping = true;
            });
        }
    }
}

/* ------------------------------------------------------------------ phases */

/** How far this Kuma is: loading, setup, migrating, listening, starting, ready or stopping. */
function phase() {
    if (missing.has("agent")) return "loading";
    if (stopping) return "stopping";
    if (!kuma.server.httpServer.listening) return asksForDatabase() ? "setup" : "migrating";
    if (!listSeen || missing.has("proofs")) return "listening";
    return progressOfStart().unreached > 0 ? "starting" : "ready";
}

/** Whether 2.x shows its page that asks which database to use. 1.x has none. */
function asksForDatabase() {
    if (!isFunction(kuma.Database, "readDBConfig")) return false;
    try {
        kuma.Database.readDBConfig();
        return false;
    } catch (error) {
        return true;
    }
}

function progressOfStart() {
    const beans = Object.values((kuma.server && kuma.server.monitorList) || {});
    const wanted = beans.filter((bean) => !bean.isStop);
    const started = wanted.filter((bean) => begun.has(bean)).length;
    return { started, of: wanted.length, unreached: wanted.length - started };
}

/** Throw the reason for which this process cannot compare memory and rows now. */
function requireReady() {
    const now = phase();
    if (now !== "starting" && now !== "ready") throw new Refusal(`not ready: ${now}`);
    if (missing.size > 0) throw new Refusal(`cannot: ${[...missing].sort().join(", ")}`);
}

/** An answer that a request gets in place of what it asked for. Its text goes out as it is. */
class Refusal extends Error {}

/* ------------------------------------------------------------------ timers and checks */

const endings = new WeakMap(); // prometheus object → what to call at the end of its check

/** Node's timer. Since 2.5 Kuma's is an object of `unlimited-timeout` that holds one in `id`. */
function nodeTimer(timer) {
    return isFunction(timer, "refresh") ? timer : timer && timer.id;
}

/** Whether a timer waits. Then no check of this monitor is in flight. */
function isArmed(bean) {
    const timer = nodeTimer(bean.heartbeatInterval);
    return isObject(timer) && timer._destroyed === false;
}

/** Let the same timer fire in `ms`. Kuma's own stop() still clears it. */
function moveTimer(timer, ms) {
    const inner = nodeTimer(timer);
    inner._idleTimeout = Math.max(1, Math.round(ms));
    inner.refresh();
}

/** Milliseconds until a timer fires. */
function remaining(timer) {
    const inner = nodeTimer(timer);
    const probe = setTimeout(() => undefined, 1); // it knows what time the event loop has
    clearTimeout(probe);
    return inner._idleStart + inner._idleTimeout - probe._idleStart;
}

/** stopped, waits (start-up has not reached it), quiet (a timer waits) or checking. */
function stateOf(bean) {
    if (bean.isStop) return "stopped";
    if (!begun.has(bean)) return "waits";
    return isArmed(bean) || waitsForFirstPush(bean) ? "quiet" : "checking";
}

/** 1.x keeps no hold on the timer of a push monitor's first beat. */
function waitsForFirstPush(bean) {
    if (bean.type !== "push" || bean.heartbeatInterval !== undefined) return false;
    return Date.now() < begun.get(bean) + bean.interval * 1000 - 50;
}

/**
 * Call back once, with the beat, when the check in flight has ended and been stored.
 *
 * `prometheus.update` is the last thing that a beat calls before it sets its timer again; there
 * is no better moment for a monitor whose checks take longer than its interval, since its timer
 * waits for 1 ms only. Returns a function that takes this back; null if there is nothing to hook.
 */
function atEndOfCheck(bean, callback) {
    const metrics = bean.prometheus;
    if (!isFunction(metrics, "update")) return null;
    let callbacks = endings.get(metrics);
    if (!callbacks) {
        callbacks = new Set();
        endings.set(metrics, callbacks);
        const own = Object.prototype.hasOwnProperty.call(metrics, "update");
        const update = metrics.update;
        metrics.update = function (...rest) {
            endings.delete(metrics);
            if (own) metrics.update = update;
            else delete metrics.update;
            try {
                return update.apply(metrics, rest);
            } finally {
                for (const call of callbacks) attempt(() => call(rest[0]));
            }
        };
    }
    callbacks.add(callback);
    return () => callbacks.delete(callback);
}

function stopBean(bean) {
    // 1.x returns nothing, 2.x a promise
    attempt(() => Promise.resolve(bean.stop()).catch(() => undefined));
}

/* ------------------------------------------------------------------ rows and memory */

const records = new WeakMap(); // bean → column → value; see record()
const keys = new Map(); // column → the name of its property in a bean

function read(sql, values) {
    return kuma.R.getAll(sql, values || []);
}

/** The property that holds a column. */
function keyOf(column) {
    if (!keys.has(column)) keys.set(column, kuma.Monitor.internalName(column));
    return keys.get(column);
}

/** A value as beans hold it (MariaDB gives dates as Date), and such that === compares it. */
function plain(value) {
    if (value === undefined || value === null) return null;
    if (typeof value === "boolean") return Number(value);
    if (Buffer.isBuffer(value)) return `blob ${value.toString("base64")}`;
    if (!(value instanceof Date)) return value;
    const midnight = !(value.getHours() || value.getMinutes() || value.getSeconds());
    return midnight ? kuma.R.isoDate(value) : kuma.R.isoDateTime(value);
}

/** Note with what a bean was loaded, or run, in the columns that Kuma may fill in it. */
function record(bean) {
    const columns = FILLED[bean.getType()] || [];
    records.set(bean, new Map(columns.map((column) => [column, plain(bean[keyOf(column)])])));
}

/**
 * The columns in which a bean is not its row.
 *
 * Where Kuma has filled in a default and the row is as it was, a restart would end there too.
 */
function differences(bean, row) {
    const skip = RUNTIME[bean.getType()] || [];
    const known = records.get(bean) || new Map();
    return Object.keys(row).filter((column) => {
        const held = bean[keyOf(column)];
        if (held === row[column] || skip.includes(column)) return false;
        const value = plain(row[column]);
        return plain(held) !== value && known.get(column) !== value;
    });
}

/** Give a bean the values of its row. */
function copyRow(bean, row) {
    bean.import(Object.assign({}, row)); // import() changes what it is given
    bean.beanMeta.refresh(); // related rows that it has kept
    record(bean);
    bean.oauthAccessToken = undefined; // made from the old values
}

function byId(beans) {
    return new Map(beans.map((bean) => [bean.id, bean]));
}

/** Call `task` with at most `width` running. */
function limiter(width) {
    const line = [];
    let free = width;
    return async (task) => {
        if (free > 0) free--;
        else await new Promise((go) => line.push(go));
        try {
            return await task();
        } finally {
            if (line.length > 0) line.shift()();
            else free++;
        }
    };
}

/* ------------------------------------------------------------------ reconcile */

let line = Promise.resolve(); // reconciles, one at a time
let inLine = 0;

/** Wait for those before, then make memory equal to the rows. `tell` gets a progress. */
function reconcileInTurn(request, tell) {
    if (inLine >= MAX_IN_LINE) throw new Refusal("busy: too many requests in line");
    inLine++;
    const mine = line.then(() => reconcile(request, tell));
    line = mine.catch(() => undefined).then(() => inLine--);
    return mine;
}

/** Pass after pass, until one has found nothing to do. */
async function reconcile(request, tell) {
    requireReady();
    const began = Date.now();
    const job = new Job(request);
    const ticker = setInterval(() => tell(job.progress()), 500);
    try {
        do {
            job.nextRound();
            await pass(job);
        } while (job.didSomething() && job.rounds < MAX_ROUNDS);
        if (job.request.rows || job.done > 0) {
            kuma.apicache.clear(); // status pages are kept in it for five minutes
            tellTabs(job);
        }
    } finally {
        clearInterval(ticker);
    }
    return job.report(Date.now() - began);
}

const KINDS = ["settings", "users", "maintenance", "changed", "started", "stopped", "labels"];

/** What one reconcile was asked for, and what it has done. */
class Job {
    constructor(request) {
        this.request = request;
        this.ids = request.ids || [];
        this.replaced = new Set(request.replaced || []);
        this.beatNow = request.beat !== "due";
        this.rounds = 0;
        this.before = 0;
        this.done = 0;
        this.ended = {}; // kind → Set of what was done
        for (const kind of KINDS) this.ended[kind] = new Set();
        this.domains = false;
        this.tabs = 0;
        this.errors = new Map(); // id of a monitor → why it is not as its row
        this.of = 0;
        this.waiting = new Set(); // ids of monitors
        this.reads = limiter(SIDE_BY_SIDE);
        this.beats = limiter(SIDE_BY_SIDE);
    }

    /** Ids that the first round does alone, since the replicator knows them. */
    get hinted() {
        const list = kuma.server.monitorList;
        return this.rounds > 1 ? [] : this.ids.filter((id) => list[id] && !list[id].isStop);
    }

    note(kind, what) {
        this.ended[kind].add(what);
        this.done++;
    }

    nextRound() {
        this.rounds++;
        this.before = this.done;
        this.errors.clear(); // what is still so, this round finds again
    }

    /** Whether this round leaves a reason for another. */
    didSomething() {
        return this.done > this.before || (this.rounds === 1 && this.hinted.length > 0);
    }

    progress() {
        const waiting = [...this.waiting].slice(0, 20);
        return { done: this.of - this.waiting.size, of: this.of, waiting };
    }

    report(ms) {
        const found = {};
        for (const kind of Object.keys(this.ended)) found[kind] = [...this.ended[kind]];
        return Object.assign(found, {
            domains: this.domains,
            tabs: this.tabs,
            errors: [...this.errors].map(([id, error]) => `monitor ${id}: ${error}`),
            rounds: this.rounds,
            any: this.done,
            equal: this.done === this.before && this.errors.size === 0,
            ms,
        });
    }
}

/**
 * Read all rows in one burst, then give memory what differs.
 *
 * One burst, since each query waits in Kuma's queue: read one after another, tables took 5 s
 * under load. Pages of monitors are compared in the moment in which they arrive.
 */
async function pass(job) {
    const hinted = job.hinted;
    const found = new Found();
    const domains = domainsHeld();
    const full = hinted.length === 0;
    const [settings, people, maintenances, links, tags, ids] = await Promise.all([
        read("SELECT `key`, value FROM setting"),
        read(PEOPLE),
        read("SELECT * FROM maintenance"),
        full ? read(`${LINKS} ORDER BY tag.name`) : [],
        read("SELECT name, '' AS value FROM tag"),
        full ? read("SELECT id, active FROM monitor") : [],
        kuma.StatusPage.loadDomainMappingList(),
        full ? comparePages(found) : undefined,
    ]);
    if (domainsHeld() !== domains) {
        job.domains = true;
        job.done++;
    }
    reconcilePeople(job, people);
    const zoneChanged = reconcileSettings(job, settings);
    await reconcileMaintenance(job, maintenances, zoneChanged);
    knowLabels(tags);
    if (!full) {
        job.of = hinted.length;
        await Promise.all(hinted.map((id) => renewOrSay(job, id)));
        return;
    }
    stopWhatIsNotActive(job, found, new Map(ids.map((row) => [row.id, Boolean(row.active)])));
    found.changed.sort((one, two) => one.due - two.due);
    job.of = found.changed.length;
    await Promise.all(found.changed.map(({ id }) => renewOrSay(job, id)));
    await startWhatIsNew(job, found.fresh);
    await reconcileLabels(job, links);
}

/* -- settings, people, maintenance, domain names */

/** Forget cached values that rows have changed. Returns whether the time zone is another now. */
function reconcileSettings(job, rows) {
    const values = settingsOf(rows);
    for (const key of staleSettings(values)) {
        if (key === "entryPage") kuma.server.entryPage = plain(values.get(key));
        delete kuma.Settings.cacheList[key];
        job.note("settings", key);
    }
    const zone = zoneWanted(values);
    if (zone === process.env.TZ) return false;
    process.env.TZ = zone; // as UptimeKumaServer.setTimezone does
    kuma.dayjs.tz.setDefault(zone);
    job.note("settings", "serverTimezone");
    return true;
}

/** Key → value, as Settings.get gives it. */
function settingsOf(rows) {
    const parse = (text) => {
        try {
            return JSON.parse(text);
        } catch (error) {
            return text;
        }
    };
    return new Map(rows.map((row) => [row.key, parse(row.value)]));
}

/** Keys whose value in memory is not that of the row. */
function staleSettings(values) {
    const text = (value) => JSON.stringify(plain(value));
    const same = (held, key) => text(held) === text(values.get(key));
    const cache = kuma.Settings.cacheList;
    const stale = Object.keys(cache).filter((key) => !same(cache[key].value, key));
    if (!same(kuma.server.entryPage, "entryPage")) stale.push("entryPage");
    return [...new Set(stale)];
}

/** The zone that a start would take: the environment's, the setting's, the machine's, or UTC. */
function zoneWanted(values) {
    const isZone = (zone) =>
        Boolean(zone) && Boolean(attempt(() => new Intl.DateTimeFormat("en", { timeZone: zone })));
    if (isZone(kuma.zone)) return process.env.TZ;
    return [values.get("serverTimezone"), kuma.guessedZone].find(isZone) || "UTC";
}

const PEOPLE = "SELECT id, username, password, active, twofa_status FROM `user`";
let people = null; // id → digest of what a log-in hangs on; null: not read yet

function digest(value) {
    return createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 16);
}

/** Returns the ids of users that are not as they were: changed, gone, or new. */
function notePeople(rows) {
    const account = (row) => [row.username, row.password, row.active, row.twofa_status];
    const now = new Map(rows.map((row) => [row.id, digest(account(row).map(plain))]));
    const before = people || now;
    people = now;
    const ids = new Set([...before.keys(), ...now.keys()]);
    return [...ids].filter((id) => now.get(id) !== before.get(id));
}

/** Let the open pages of a user log in again if what they logged in with has changed. */
function reconcilePeople(job, rows) {
    for (const id of notePeople(rows)) {
        for (const socket of kuma.server.io.sockets.sockets.values()) {
            if (socket.userID !== id) continue;
            socket.emit("refresh");
            socket.disconnect();
        }
        job.note("users", id);
    }
}

/** Run new and edited maintenances, then end the old ones: no moment is without. */
async function reconcileMaintenance(job, rows, zoneChanged) {
    const list = kuma.server.maintenanceList;
    for (const row of rows) {
        const old = list[row.id];
        if (old && !maintenanceDiffers(old, row, zoneChanged)) continue;
        const bean = kuma.R.convertToBean("maintenance", Object.assign({}, row));
        try {
            await bean.run();
        } catch (error) {
            // a row that cannot run (a date that is none): a restart would leave it so too
        }
        list[row.id] = bean;
        if (old) endMaintenance(old);
        job.note("maintenance", row.id);
    }
    const ids = new Set(rows.map((row) => String(row.id)));
    for (const id of Object.keys(list).filter((key) => !ids.has(key))) {
        endMaintenance(list[id]);
        delete list[id];
        job.note("maintenance", Number(id));
    }
}

function maintenanceDiffers(bean, row, zoneChanged) {
    const serversZone = [null, "", "SAME_AS_SERVER"].includes(row.timezone);
    return (zoneChanged && serversZone) || differences(bean, row).length > 0;
}

function endMaintenance(bean) {
    bean.stop();
    clearTimeout(bean.beanMeta.durationTimeout); // stop() leaves the end of an open window
}

function domainsHeld() {
    const held = kuma.StatusPage.domainMappingList;
    return JSON.stringify(Object.keys(held).sort().map((domain) => [domain, held[domain]]));
}

/* -- monitors */

/** What a full pass has found about the monitors. */
class Found {
    constructor() {
        // A bean that comes later belongs to a row that this pass may not have seen.
        this.beans = byId(Object.values(kuma.server.monitorList));
        this.active = new Set(); // ids of rows
        this.changed = []; // {id, due}
        this.fresh = []; // ids without a bean that runs
    }

    compare(rows) {
        const list = kuma.server.monitorList;
        for (const row of rows) {
            const bean = list[row.id];
            this.active.add(row.id);
            if (!bean || bean.isStop) {
                this.fresh.push(row.id);
            } else if (differences(bean, row).length > 0) {
                const due = isArmed(bean) ? remaining(bean.heartbeatInterval) : 0;
                this.changed.push({ id: row.id, due });
            }
        }
    }
}

/** Read active monitors page by page, all at once; each page is handed on when it arrives. */
function readPages(onPage) {
    const select = "SELECT * FROM monitor WHERE active = 1 AND id > ?";
    const ids = Object.keys(kuma.server.monitorList).map(Number).sort((one, two) => one - two);
    const cuts = [0].concat(ids.filter((id, at) => at % PAGE === PAGE - 1));
    const tail = async (from) => {
        const rows = await read(`${select} ORDER BY id LIMIT ${PAGE}`, [from]);
        onPage(rows);
        if (rows.length === PAGE) await tail(rows[PAGE - 1].id);
    };
    const pages = cuts
        .slice(1)
        .map((to, at) => read(`${select} AND id <= ?`, [cuts[at], to]).then(onPage));
    return Promise.all(pages.concat(tail(cuts[cuts.length - 1])));
}

function comparePages(found) {
    return readPages((rows) => found.compare(rows));
}

/** Stop each monitor that has no active row. `rows`: id → whether it is active. */
function stopWhatIsNotActive(job, found, rows) {
    const list = kuma.server.monitorList;
    for (const [id, bean] of running) if (bean.isStop) running.delete(id);
    for (const [id, bean] of found.beans) {
        if (list[id] !== bean || found.active.has(id) || rows.get(id)) continue;
        if (!bean.isStop || !rows.has(id)) job.note("stopped", id);
        dropped.add(bean); // start-up may not have reached it yet
        const beats = mayBeatAfterStop(bean);
        if (!bean.isStop) stopBean(bean);
        bean.active = 0;
        running.delete(id);
        if (rows.has(id)) continue;
        delete list[id];
        if (beats) disown(bean);
    }
    for (const id of Object.keys(kuma.statistics.list).map(Number)) {
        if (!rows.has(id) && !list[id] && !mayBeCounting(id)) forgetStatistics(id);
    }
    // a paused monitor that is another one now
    for (const id of job.replaced) if (rows.get(id) === false) forgetStatistics(id);
}

/** Begin monitors that have an active row and no running bean. */
async function startWhatIsNew(job, ids) {
    const fresh = [];
    for (let at = 0; at < ids.length; at += PAGE) {
        const some = ids.slice(at, at + PAGE);
        const marks = some.map(() => "?").join(", ");
        const sql = `SELECT * FROM monitor WHERE active = 1 AND id IN (${marks})`;
        for (const row of await read(sql, some)) {
            const bean = enlist(row);
            if (!bean) continue;
            fresh.push(bean);
            job.replaced.delete(bean.id);
            job.note("started", bean.id);
        }
    }
    // all monitors of a fleet at once would be a herd
    if (fresh.length > STARTS_AT_ONCE) beginTheRest(fresh);
    else await Promise.all(fresh.map(begin));
}

/** Put a new bean for a row into Kuma's list; null if a bean runs there by now. */
function enlist(row) {
    const list = kuma.server.monitorList;
    if (list[row.id] && !list[row.id].isStop) return null;
    forgetStatistics(row.id); // they may be another monitor's; they are read anew
    const bean = kuma.R.convertToBean("monitor", row);
    list[row.id] = bean;
    return bean;
}

async function begin(bean) {
    if (stopping) return;
    try {
        await bean.start(kuma.server.io);
    } catch (error) {
        // start-up of Kuma goes on with the next one, too
    }
}

function forgetStatistics(id) {
    const statistics = kuma.statistics;
    if (isFunction(statistics, "remove")) statistics.remove(id);
    else statistics.clearCache(id);
}

/* -- one monitor that is not as its row */

/** Give a running monitor its row, or note why not. */
async function renewOrSay(job, id) {
    job.waiting.add(id);
    try {
        const reason = await renew(job, id);
        if (reason) job.errors.set(id, reason);
    } catch (error) {
        job.errors.set(id, "its row could not be read or copied");
    }
    job.waiting.delete(id);
}

/**
 * Copy a monitor's row into its bean while no check of it is in flight.
 *
 * The bean goes on running: a stop and a start would beat twice, alert twice where a check is in
 * flight, and use up a retry or a resend. Its loop reads each value anew at each beat. Returns
 * why it could not be done, undefined if it was done or the next round will see to it.
 */
async function renew(job, id) {
    const list = kuma.server.monitorList;
    const end = Date.now() + LONGEST_CHECK;
    for (;;) {
        const bean = list[id];
        if (!bean || bean.isStop) return undefined;
        const timer = bean.heartbeatInterval;
        const before = stateOf(bean);
        const found = await job.reads(() => readMonitor(bean));
        if (list[id] !== bean || bean.isStop) return undefined;
        if (!found.row || !found.row.active) return undefined;
        if (isOther(job, bean, found)) {
            copy(job, bean, found); // a check in flight is none of the new monitor's
            return undefined;
        }
        if (differences(bean, found.row).length === 0) return undefined;
        if (before !== "checking" && bean.heartbeatInterval === timer && stateOf(bean) === before) {
            await give(job, bean, found);
            return undefined;
        }
        if (Date.now() > end) return `its check has not ended in ${LONGEST_CHECK / 1e3} s`;
        if (stateOf(bean) === "checking" && (await giveAtEndOfCheck(job, bean, found, end))) {
            return undefined;
        }
    }
}

/** A monitor's row, tags, last status, and whether its latest statistics still have a row. */
async function readMonitor(bean) {
    const id = bean.id;
    const held = kuma.statistics.list[id];
    const minute = held && held.lastMinutelyStatBean;
    const [[row], links, [last], kept] = await Promise.all([
        read("SELECT * FROM monitor WHERE id = ?", [id]),
        read(`${LINKS} WHERE mt.monitor_id = ? ORDER BY tag.name`, [id]),
        read("SELECT status FROM heartbeat WHERE monitor_id = ? ORDER BY time DESC LIMIT 1", [id]),
        // Kuma itself deletes those of yesterday
        minute && minute.id && minute.timestamp > Date.now() / 1e3 - 23 * 3600
            ? read("SELECT id FROM stat_minutely WHERE id = ? AND monitor_id = ?", [minute.id, id])
            : [minute],
    ]);
    const status = last ? last.status : undefined;
    return { row, links, status, statisticsGone: kept.length === 0 };
}

/** Whether the row under this id belongs to another monitor than the bean. */
function isOther(job, bean, { row, statisticsGone }) {
    const created = plain(bean[keyOf("created_date")]);
    return job.replaced.has(bean.id) || statisticsGone || created !== plain(row.created_date);
}

/** Copy the row now; then beat at once, where that uses up nothing. */
async function give(job, bean, found) {
    const early = copy(job, bean, found);
    if (early) await job.beats(() => beatEarly(bean, early.inStep));
}

/**
 * Copy the row when the check in flight ends; true if that was done.
 *
 * False if it ended in another way (an error inside Kuma, a push that came in time), if the bean
 * was stopped or replaced, or at `end`: the caller looks again.
 */
async function giveAtEndOfCheck(job, bean, found, end) {
    let copied = false;
    let early = null;
    const takeBack = atEndOfCheck(bean, (heartbeat) => {
        if (kuma.server.monitorList[bean.id] !== bean || bean.isStop) return;
        const status = heartbeat ? heartbeat.status : found.status;
        copied = true;
        early = copy(job, bean, Object.assign({}, found, { status }));
    });
    do await pause(20);
    while (!copied && stateOf(bean) === "checking" && Date.now() < end);
    if (takeBack) takeBack();
    if (early) await job.beats(() => beatEarly(bean, early.inStep));
    return copied;
}

/**
 * Copy the row into its bean, without awaiting anything.
 *
 * Returns null if no early beat may follow, else whether the monitor is to be back in step after
 * it: `{inStep}`.
 */
function copy(job, bean, found) {
    const { row, links, status } = found;
    const waits = !begun.has(bean);
    const other = isOther(job, bean, found);
    job.note("changed", bean.id);
    job.replaced.delete(bean.id);
    if (other) forgetStatistics(bean.id);
    if (!waits && (other || bean.type !== row.type)) {
        beginAnew(bean, row, other);
        return null;
    }
    const held = (column) => plain(bean[keyOf(column)]);
    const changed = (column) => held(column) !== plain(row[column]);
    const inStep = !changed("interval") && !changed("retry_interval");
    const resends = held("resend_interval") > 0 || row.resend_interval > 0;
    // a beat of a monitor that is down counts towards the next resend, one more retry makes it
    // PENDING again, and DOWN after that alerts again
    const costs = status === PENDING || (status === DOWN && (resends || changed("maxretries")));
    copyRow(bean, row);
    if (waits) return null; // it will begin with the new values
    relabel(bean, links);
    return job.beatNow && row.type !== "push" && !costs ? { inStep } : null;
}

/** Another monitor under this id, or another kind of check: stop the old bean, start a new one. */
function beginAnew(bean, row, other) {
    const beats = mayBeatAfterStop(bean);
    dropped.add(bean);
    stopBean(bean);
    if (other && beats) disown(bean);
    const successor = kuma.R.convertToBean("monitor", Object.assign({}, row));
    kuma.server.monitorList[row.id] = successor;
    begin(successor);
}

/** Whether stop() leaves something: a check in flight, or 1.x's timer of a first push. */
function mayBeatAfterStop(bean) {
    return begun.has(bean) && !bean.isStop && !isArmed(bean);
}

const disowned = new Map(); // bean whose last check is in flight → the id that it had

/**
 * Let what a stopped bean still checks come to nothing: its monitor is gone.
 *
 * The beat would be stored as the first one of another monitor under the same id, or break a
 * reference; its alert would go to that monitor's receivers.
 */
function disown(bean) {
    const id = bean.id;
    const now = kuma.R.isoDateTimeMillis(kuma.dayjs.utc());
    disowned.set(bean, id);
    bean.id = NOBODY;
    const unwatch = watchStores((row) => {
        if (row.monitor_id === NOBODY) return true; // its statistics
        if (row.monitor_id !== id) return false;
        // a monitor that has come under this id since stores rows of its own
        return row.getType() === "heartbeat" ? row.time < now : !kuma.server.monitorList[id];
    });
    const end = () => {
        unwatch();
        clearTimeout(timer);
        disowned.delete(bean);
        bean.prometheus.remove(); // the end of its check has set its metrics again
        if (disowned.size === 0) forgetStatistics(NOBODY);
        if (!kuma.server.monitorList[id] && !mayBeCounting(id)) forgetStatistics(id);
    };
    const timer = setTimeout(() => attempt(end), LONGEST_DISOWNED);
    timer.unref();
    atEndOfCheck(bean, end);
}

/** Whether a check in flight may wait for the statistics of this id: without them it would fail. */
function mayBeCounting(id) {
    return disowned.size > 0 && (id === NOBODY || [...disowned.values()].includes(id));
}

/** Beat now with the new values. The wait for it ends after a while in any case. */
async function beatEarly(bean, inStep) {
    if (bean.isStop || !isArmed(bean)) return; // it has just begun to beat by itself
    const ms = remaining(bean.heartbeatInterval);
    if (ms <= 1) return;
    const due = Date.now() + ms;
    let ended = false;
    atEndOfCheck(bean, (beat) => {
        ended = true;
        // Kuma sets the timer right after this
        if (inStep) setImmediate(() => attempt(() => backIntoStep(bean, due, beat)));
    });
    moveTimer(bean.heartbeatInterval, 1);
    const end = Date.now() + EARLY_BEAT;
    do await pause(10);
    while (!ended && !bean.isStop && Date.now() < end);
}

/** Let the next beat come when it would have come without the early one. */
function backIntoStep(bean, due, beat) {
    const ms = due - Date.now();
    // the next retry counts from the beat that failed
    if (ms <= 0 || bean.isStop || !isArmed(bean) || (beat && beat.status === PENDING)) return;
    if (ms < remaining(bean.heartbeatInterval)) moveTimer(bean.heartbeatInterval, ms);
}

/* -- labels of /metrics */

const GAUGES = ["status", "response_time", "cert_is_valid", "cert_days_remaining"];
const GAUGES_BY_WINDOW = ["uptime_ratio", "response_time_seconds"]; // since 2.1
const WINDOWS = [{}, { window: "1d" }, { window: "30d" }, { window: "365d" }];

/** Kuma's gauges of monitors. */
function gauges() {
    const names = GAUGES.concat(GAUGES_BY_WINDOW);
    const all = names.map((name) => kuma.prom.register.getSingleMetric(`monitor_${name}`));
    return all.filter(Boolean);
}

/** Let the gauges know each tag's name: a label that they do not know makes set() throw. */
function knowLabels(tags) {
    const labels = Object.keys(new kuma.Prometheus({}, tags).monitorLabelValues);
    for (const gauge of gauges()) {
        gauge.labelNames.push(...labels.filter((label) => !gauge.labelNames.includes(label)));
    }
}

/** Move the series of a running monitor to its new labels, with their values. */
function relabel(bean, links) {
    const metrics = bean.prometheus;
    if (!metrics) return false;
    const from = metrics.monitorLabelValues;
    const to = new kuma.Prometheus(bean, links).monitorLabelValues;
    if (JSON.stringify(from) === JSON.stringify(to)) return false;
    for (const gauge of gauges()) {
        for (const window of WINDOWS) {
            const labels = Object.assign({}, from, window);
            // by its key: to look through all series is N for each of N monitors
            const series = gauge.hashMap[kuma.hashObject(labels)];
            if (!series) continue;
            gauge.remove(labels);
            gauge.set(Object.assign({}, to, window), series.value);
        }
    }
    metrics.monitorLabelValues = to; // the same object: the end of a check may be awaited on it
    return true;
}

async function reconcileLabels(job, links) {
    const linksOf = new Map();
    for (const link of links) {
        if (!linksOf.has(link.monitor_id)) linksOf.set(link.monitor_id, []);
        linksOf.get(link.monitor_id).push(link);
    }
    let seen = 0;
    for (const bean of Object.values(kuma.server.monitorList)) {
        if (++seen % PAGE === 0) await new Promise(setImmediate);
        if (bean.isStop) continue;
        if (relabel(bean, linksOf.get(bean.id) || [])) job.note("labels", bean.id);
    }
}

/* -- open pages */

const LISTS = ["Notification", "Proxy", "DockerHost", "APIKey"];
const LISTS_OF_2 = ["RemoteBrowser"];

let telling = Promise.resolve(); // one after another, in the order of the reconciles

/** Send what a log-in sends, to the rooms with somebody in them. Does not wait for it. */
function tellTabs(job) {
    const sockets = [...kuma.server.io.sockets.sockets.values()].filter((socket) => socket.userID);
    const users = [...new Set(sockets.map((socket) => socket.userID))];
    const { changed, started, stopped, labels, settings } = job.ended;
    const ids = [...new Set([...changed, ...started, ...stopped, ...labels, ...job.ids])];
    const tell = async () => {
        for (const userID of users) {
            await tellLists(userID);
            await tellMonitors(userID, ids);
        }
        if (settings.size > 0) for (const socket of sockets) await kuma.client.sendInfo(socket);
    };
    // a page that could not be told shows the old lists until it is loaded again; no more
    telling = telling.then(tell).catch(() => undefined);
    job.tabs = users.length;
}

async function tellLists(userID) {
    const room = { userID, emit: () => undefined };
    for (const list of LISTS) await kuma.client[`send${list}List`](room);
    for (const list of LISTS_OF_2) {
        if (isFunction(kuma.client, `send${list}List`)) await kuma.client[`send${list}List`](room);
    }
    await kuma.StatusPage.sendStatusPageList(kuma.server.io, room);
    await kuma.server.sendMaintenanceList(room);
}

async function tellMonitors(userID, ids) {
    const room = { userID, emit: () => undefined };
    const server = kuma.server;
    if (ids.length === 0) return;
    const all = Object.keys(server.monitorList).length;
    // each monitor costs some queries; 1.x can send the whole list only
    if (2 * ids.length > all + 20 || !isFunction(server, "sendUpdateMonitorIntoList")) {
        await server.sendMonitorList(room);
        return;
    }
    for (const id of ids) {
        if (server.monitorList[id]) await server.sendUpdateMonitorIntoList(room, id);
        else await server.sendDeleteMonitorFromList(room, id);
    }
}

/* ------------------------------------------------------------------ holds */

/** What memory holds, and what of it is not as its row. */
async function holds() {
    requireReady();
    const monitors = {};
    const differ = { monitors: [], maintenance: [], settings: [], domains: false };
    const list = kuma.server.monitorList;
    const before = byId(Object.values(list));
    const active = new Set();
    const held = domainsHeld();
    const compare = (rows) => {
        for (const row of rows) {
            const bean = list[row.id];
            active.add(row.id);
            const columns = bean && !bean.isStop ? differences(bean, row) : null;
            if (!columns || columns.length > 0) differ.monitors.push(row.id);
            if (columns) monitors[row.id] = [digestOf(bean, row, columns), stateOf(bean)];
        }
    };
    const [settings, maintenances] = await Promise.all([
        read("SELECT `key`, value FROM setting"),
        read("SELECT * FROM maintenance"),
        kuma.StatusPage.loadDomainMappingList(),
        readPages(compare),
    ]);
    for (const [id, bean] of before) {
        if (active.has(id) || list[id] !== bean) continue;
        if (!bean.isStop) differ.monitors.push(id);
        monitors[id] = [null, stateOf(bean)];
    }
    differ.domains = domainsHeld() !== held;
    differ.settings = staleSettings(settingsOf(settings));
    differ.maintenance = maintenancesThatDiffer(maintenances);
    return {
        monitors,
        maintenance: Object.keys(kuma.server.maintenanceList).map(Number),
        entryPage: plain(kuma.server.entryPage),
        zone: process.env.TZ,
        domains: kuma.StatusPage.domainMappingList,
        differ,
        equal: Object.values(differ).every((found) => found === false || found.length === 0),
    };
}

function maintenancesThatDiffer(rows) {
    const list = kuma.server.maintenanceList;
    const ids = new Set(rows.map((row) => row.id));
    const gone = Object.keys(list).map(Number).filter((id) => !ids.has(id));
    const other = rows.filter((row) => !list[row.id] || differences(list[row.id], row).length > 0);
    return gone.concat(other.map((row) => row.id));
}

/** A digest over [column, value] by column, without runtime columns; of the row where it is so. */
function digestOf(bean, row, changed) {
    const columns = Object.keys(row).filter((name) => !RUNTIME.monitor.includes(name)).sort();
    const value = (name) => plain(changed.includes(name) ? bean[keyOf(name)] : row[name]);
    return digest(columns.map((name) => [name, value(name)]));
}

/* ------------------------------------------------------------------ fast start */

const SLOW_STARTERS = ["real-browser", "docker"]; // a browser each, a daemon beside us
const queue = []; // {bean, host} to begin
let pacing = false;
let startupQueued = false;
let starts = []; // {at, host} of the last second, by whomever

function startsFast() {
    return missing.size === 0 && (FAST_START.includes("on") || FAST_START.includes(kuma.version));
}

/** At the first start of all: begin the others at a pace of our own. Kuma finds them begun. */
function beginStartupEarly() {
    if (startupQueued || !startsFast()) return;
    startupQueued = true;
    const waiting = Object.values(kuma.server.monitorList).filter(stillWaits);
    beginTheRest(waiting.filter((bean) => !SLOW_STARTERS.includes(bean.type)));
}

/** Begin beans at a pace that neither targets nor this process mind. Returns at once. */
function beginTheRest(beans) {
    for (const bean of beans) queue.push({ bean, host: hostOf(bean) });
    if (pacing || queue.length === 0) return;
    pacing = true;
    beginOneByOne()
        .catch(() => undefined)
        .then(() => {
            pacing = false;
        });
}

async function beginOneByOne() {
    while (queue.length > 0 && !stopping) {
        const before = Date.now();
        await pause(20);
        const late = Date.now() - before - 20;
        // Kuma is busy: leave it twice the time that it was late
        if (late > 30) await pause(Math.min(2 * late, 5e3));
        const next = takeNext();
        if (next && stillWaits(next)) await begin(next);
    }
}

function stillWaits(bean) {
    const listed = kuma.server.monitorList[bean.id] === bean;
    return listed && stateOf(bean) === "waits" && !dropped.has(bean);
}

function noteStart(bean) {
    const now = Date.now();
    starts = starts.filter(({ at }) => at > now - 1000);
    starts.push({ at: now, host: hostOf(bean) });
}

/** Take the first bean for which the last second has room: all over, and for its host. */
function takeNext() {
    starts = starts.filter(({ at }) => at > Date.now() - 1000);
    if (starts.length >= STARTS_A_SECOND) return null;
    const busy = (host) =>
        starts.filter((start) => start.host === host).length >= STARTS_A_SECOND_AND_HOST;
    const at = queue.findIndex(({ host }) => host === null || !busy(host));
    return at < 0 ? null : queue.splice(at, 1)[0].bean;
}

/** Whom a check talks to; null for one that talks to nobody. */
function hostOf(bean) {
    if (["push", "group", "manual"].includes(bean.type)) return null;
    if (bean.type === "dns") return `dns ${bean.dns_resolve_server}`;
    const url = attempt(() => new URL(bean.url).hostname);
    const database = attempt(() => new URL(bean.database_connection_string).hostname);
    // unknown: as if all of a type talked to one host
    return url || bean.hostname || database || `type ${bean.type}`;
}

/* ------------------------------------------------------------------ requests */

/** Per verb: which members a request may have, and what answers it. */
const VERBS = {
    hello: { members: {}, answer: hello },
    reconcile: {
        members: {
            ids: isListOfIds,
            replaced: isListOfIds,
            rows: (value) => typeof value === "boolean",
            beat: (value) => value === "now" || value === "due",
        },
        answer: async (request, tell) => ({ report: await reconcileInTurn(request, tell) }),
    },
    holds: { members: {}, answer: holds },
};

function isListOfIds(value) {
    return Array.isArray(value) && value.every((id) => Number.isSafeInteger(id));
}

function hello() {
    return Object.assign(
        {
            agent: PROTOCOL,
            sha,
            version: kuma.version || null,
            pid: process.pid,
            begun: begunAt,
            phase: attempt(phase) || "loading",
        },
        progressOfStart(),
        { missing: [...missing].sort(), needs_setup: needsSetup, database, fast_start: startsFast() },
    );
}

/** The request of a line; throws if it is none. */
function parse(text) {
    const request = JSON.parse(text);
    if (!isObject(request) || !Number.isSafeInteger(request.id)) throw new Refusal("no request");
    return request;
}

async function answer(request, tell) {
    const known = Object.prototype.hasOwnProperty.call(VERBS, request.do);
    if (!known) throw new Refusal("unknown request");
    const verb = VERBS[request.do];
    for (const name of Object.keys(request)) {
        if (name === "id" || name === "do") continue;
        const allowed = Object.prototype.hasOwnProperty.call(verb.members, name);
        if (allowed && verb.members[name](request[name])) continue;
        throw new Refusal(`bad member: ${verbatim(name)}`);
    }
    return verb.answer(request, tell);
}

/** A name out of a request, short and harmless. */
function verbatim(name) {
    return name.replace(/[^a-z_]/g, "?").slice(0, 20);
}

/** Answer one request; ends in any case, and throws nothing. */
async function serve(connection, request) {
    const say = (members) => {
        if (!connection.destroyed && connection.writable) {
            connection.write(`${JSON.stringify(Object.assign({ id: request.id }, members))}\n`);
        }
    };
    try {
        const members = await answer(request, (progress) => say({ progress }));
        say(Object.assign({ ok: true }, members));
    } catch (error) {
        // the words of any other error may hold a row's content
        const known = error instanceof Refusal;
        say({ ok: false, error: known ? error.message : "it failed inside Kuma" });
    }
}

/* ------------------------------------------------------------------ the socket */

/** SOCKET, by a name that the kernel takes: of 107 bytes at most. */
function address() {
    if (Buffer.byteLength(SOCKET) <= LONGEST_PATH) return SOCKET;
    const folder = fs.openSync(path.dirname(SOCKET)); // stays open: the name goes through it
    return `/proc/self/fd/${folder}/${path.basename(SOCKET)}`;
}

/** Serve requests at SOCKET, unless another process does. */
function listen() {
    const at = attempt(address);
    if (!at) return complain("its folder cannot be opened");
    const probe = net.connect(at);
    probe.unref();
    probe.once("connect", () => {
        probe.destroy();
        complain("another process serves it");
    });
    probe.once("error", (error) => {
        if (error.code === "ECONNREFUSED") attempt(removeDeadSocket);
        else if (error.code !== "ENOENT") return complain(error.code);
        attempt(() => bind(at));
    });
}

/** Remove a socket that nobody serves. A file of any other kind refuses a connection too. */
function removeDeadSocket() {
    if (fs.lstatSync(SOCKET).isSocket()) fs.unlinkSync(SOCKET);
}

function bind(at) {
    const server = net.createServer(accept);
    server.maxConnections = MAX_CONNECTIONS;
    server.on("error", (error) => complain(error.code));
    server.unref(); // Kuma's exit does not wait for us
    const mask = process.umask(0o177); // 0600: whoever may open it can read kuma.db anyway
    try {
        server.listen(at);
    } catch (error) {
        complain(error.code);
    } finally {
        process.umask(mask);
    }
    const ours = attempt(() => fs.lstatSync(SOCKET).ino);
    process.once("exit", () =>
        attempt(() => fs.lstatSync(SOCKET).ino === ours && fs.unlinkSync(SOCKET)),
    );
}

let complained = false;

function complain(reason) {
    if (complained) return;
    complained = true;
    console.error(`replicator-kuma agent: cannot serve ${SOCKET}: ${reason}`);
}

/** Read lines from a connection. What is no request ends it. */
function accept(connection) {
    let text = "";
    connection.unref();
    connection.setEncoding("utf8");
    connection.setTimeout(IDLE_CONNECTION, () => connection.destroy());
    connection.on("error", () => connection.destroy());
    connection.on("data", (data) => {
        text += data;
        const lines = text.split("\n");
        text = lines.pop();
        if (text.length > MAX_LINE || lines.some((each) => each.length > MAX_LINE)) {
            connection.destroy();
            return;
        }
        for (const each of lines) {
            const request = attempt(() => parse(each));
            if (!request) {
                connection.destroy();
                return;
            }
            serve(connection, request);
        }
    });
}
