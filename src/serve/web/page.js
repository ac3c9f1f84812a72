// The page: conversations kept in this browser, answers streamed from the server that it came from.
import {rendered} from "./markdown.js";

const $ = id => document.getElementById(id);
const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "seed", "max_tokens"];
const SETTINGS = [...NUMBERS, "system"];

function load(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem("millrace." + name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function save(name, value) {
  try {
    localStorage.setItem("millrace." + name, JSON.stringify(value));
  } catch (error) {
    notice(`The browser keeps no more: ${error.message}`);
  }
}

const conversations = load("conversations", []);
let current = conversations[0] ?? null;
let running = null;  // the AbortController of the answer that is being written

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

function headers() {
  const key = $("key").value;
  return {"Content-Type": "application/json", ...(key ? {Authorization: `Bearer ${key}`} : {})};
}

async function fault(reply) {
  try {
    const {error} = await reply.json();
    return error.message;
  } catch {
    return `${reply.status} ${reply.statusText}`;
  }
}

// --- what is shown

function show(message) {
  const made = document.createElement("article");
  made.className = message.role;
  const who = document.createElement("h2");
  who.className = "who";
  who.textContent = message.role === "user" ? "You" : "Answer";
  const text = document.createElement("div");
  made.append(who, text);
  $("messages").append(made);
  fill(made, message);
  return made;
}

function fill(article, message) {
  const text = article.children[1];
  if (message.role === "user") text.textContent = message.content;
  else text.replaceChildren(rendered(message.content));
  article.querySelector(".cost")?.remove();
  if (!message.cost) return;
  const cost = document.createElement("p");
  cost.className = "cost";
  cost.textContent = message.cost;
  article.append(cost);
}

function draw() {
  $("messages").replaceChildren();
  for (const message of current?.messages ?? []) show(message);
  $("conversations").replaceChildren(...conversations.map(item));
  buttons();
  toEnd();
}

function item(conversation) {
  const made = document.createElement("li");
  const open = document.createElement("button");
  open.className = "name";
  open.textContent = conversation.title;
  open.setAttribute("aria-current", String(conversation === current));
  open.addEventListener("click", () => { stop(); current = conversation; draw(); closeMenu(); });
  const forget = document.createElement("button");
  forget.textContent = "✕";
  forget.setAttribute("aria-label", `Delete ${conversation.title}`);
  forget.addEventListener("click", () => {
    stop();
    conversations.splice(conversations.indexOf(conversation), 1);
    if (conversation === current) current = conversations[0] ?? null;
    save("conversations", conversations);
    draw();
  });
  made.append(open, forget);
  return made;
}

function buttons() {
  $("send").hidden = running !== null;
  $("stop").hidden = running === null;
  $("again").hidden = running !== null || current?.messages.at(-1)?.role !== "assistant";
}

function toEnd() {
  $("messages").scrollTop = $("messages").scrollHeight;
}

function isAtEnd() {
  const box = $("messages");
  return box.scrollHeight - box.scrollTop - box.clientHeight < 60;
}

// --- asking

function asked() {
  const body = {stream: true, stream_options: {include_usage: true}, messages: []};
  for (const name of NUMBERS) if ($(name).value !== "") body[name] = Number($(name).value);
  if ($("system").value) body.messages.push({role: "system", content: $("system").value});
  for (const {role, content} of current.messages) body.messages.push({role, content});
  return body;
}

// The data of server-sent events, as they come.
async function* eventsOf(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    held += value;
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
  }
}

async function answer() {
  const conversation = current;
  const body = asked();
  const message = {role: "assistant", content: ""};
  running = new AbortController();
  const {signal} = running;
  buttons();
  notice("");
  let article = null;
  try {
    const began = performance.now();
    const reply = await fetch("v1/chat/completions", {method: "POST", headers: headers(), body: JSON.stringify(body), signal});
    if (!reply.ok) throw new Error(await fault(reply));
    conversation.messages.push(message);
    article = show(message);
    article.children[1].classList.add("writing");
    await read(reply, message, article, began);
  } catch (error) {
    if (error.name !== "AbortError") notice(error.message);
    if (reasonless(message) && conversation.messages.at(-1) === message) conversation.messages.pop();
  } finally {
    article?.children[1].classList.remove("writing");
    if (article && reasonless(message)) article.remove();
    running = null;
    save("conversations", conversations);
    buttons();
  }
}

function reasonless(message) {
  return message.content === "" && !message.cost;
}

async function read(reply, message, article, began) {
  let first = 0;
  let drawn = false;
  for await (const data of eventsOf(reply)) {
    if (data === "[DONE]") break;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    first ||= performance.now();
    message.content += chunk.choices[0]?.delta.content ?? "";
    if (chunk.usage) message.cost = cost(chunk.usage, (performance.now() - first) / 1000, (first - began) / 1000);
    if (drawn && !message.cost) continue;  // once a frame is enough
    drawn = true;
    const follow = isAtEnd();
    requestAnimationFrame(() => { drawn = false; fill(article, message); if (follow) toEnd(); });
  }
  fill(article, message);
}

function cost(usage, seconds, first) {
  const rate = seconds > 0 ? `, ${((usage.completion_tokens - 1) / seconds).toFixed(1)} tokens/s` : "";
  const cached = usage.prompt_tokens_details.cached_tokens;
  return `${usage.prompt_tokens} tokens in (${cached} cached), ${usage.completion_tokens} out${rate}, first after ${first.toFixed(2)} s`;
}

function send() {
  const text = $("question").value.trim();
  if (!text || running) return;
  if (!current) {
    current = {title: text.slice(0, 60), messages: []};
    conversations.unshift(current);
  }
  current.messages.push({role: "user", content: text});
  $("question").value = "";
  save("conversations", conversations);
  draw();
  answer();
}

function stop() {
  running?.abort();
}

// --- the engine, seen through /metrics

function metric(page, name) {
  const found = new RegExp(`^${name}\\{[^\\n]*\\} (\\S+)$`, "m").exec(page);
  return found ? Number(found[1]) : NaN;
}

const rates = [];
let before = null;

async function watch() {
  if (document.hidden) return;
  let page;
  try {
    const reply = await fetch("metrics", {headers: headers()});
    if (!reply.ok) return;
    page = await reply.text();
  } catch {
    $("rate").textContent = "not reached";
    return;
  }
  const now = {at: performance.now(), n: metric(page, "vllm:generation_tokens_total")};
  const rate = before ? (now.n - before.n) / ((now.at - before.at) / 1000) : 0;
  before = now;
  rates.push(rate);
  if (rates.length > 60) rates.shift();
  const most = Math.max(...rates, 1);
  $("plot").firstElementChild.setAttribute("points", rates.map((each, i) => `${i * 120 / 59},${29 - 28 * each / most}`).join(" "));
  $("rate").textContent = rate.toFixed(1);
  $("queue").textContent = `${metric(page, "vllm:num_requests_running")}, ${metric(page, "vllm:num_requests_waiting")}`;
  $("cache").textContent = `${(100 * metric(page, "vllm:kv_cache_usage_perc")).toFixed(1)} %`;
  const [hits, queries] = ["hits", "queries"].map(each => metric(page, `vllm:prefix_cache_${each}_total`));
  $("hits").textContent = queries ? `${(100 * hits / queries).toFixed(0)} %` : "–";
  $("memory").textContent = `${(metric(page, "process_resident_memory_bytes") / 2 ** 30).toFixed(2)} GiB`;
}

async function nameModel() {
  try {
    const reply = await fetch("v1/models", {headers: headers()});
    if (!reply.ok) return notice(await fault(reply));
    const {data} = await reply.json();
    $("model").textContent = `${data[0].id}, context ${data[0].max_model_len}`;
    notice("");
  } catch (error) {
    notice(`The server is not reached: ${error.message}`);
  }
}

// --- the rest

function closeMenu() {
  $("side").classList.remove("open");
  $("menu").setAttribute("aria-expanded", "false");
}

function theme(value) {
  if (value) document.documentElement.dataset.theme = value;
  else delete document.documentElement.dataset.theme;
}

function start() {
  for (const name of SETTINGS) {
    $(name).value = load("settings", {})[name] ?? "";
    $(name).addEventListener("change", () => save("settings", Object.fromEntries(SETTINGS.map(each => [each, $(each).value]))));
  }
  $("key").value = sessionStorage.getItem("millrace.key") ?? "";
  $("key").addEventListener("change", () => { sessionStorage.setItem("millrace.key", $("key").value); nameModel(); });
  theme(load("theme", ""));
  $("theme").addEventListener("click", () => {
    const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
    const next = (document.documentElement.dataset.theme ?? (isDark ? "dark" : "light")) === "dark" ? "light" : "dark";
    theme(next);
    save("theme", next);
  });
  $("menu").addEventListener("click", () => $("menu").setAttribute("aria-expanded", String($("side").classList.toggle("open"))));
  $("new").addEventListener("click", () => { stop(); current = null; draw(); closeMenu(); $("question").focus(); });
  $("ask").addEventListener("submit", event => { event.preventDefault(); send(); });
  $("stop").addEventListener("click", stop);
  $("again").addEventListener("click", () => { current.messages.pop(); draw(); answer(); });
  $("question").addEventListener("keydown", event => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  document.addEventListener("keydown", event => { if (event.key === "Escape") { stop(); closeMenu(); } });
  draw();
  nameModel();
  watch();
  setInterval(watch, 2000);
}

start();
