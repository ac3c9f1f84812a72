// Markdown as elements of the page. Text is only ever put in as text: what a model writes is never parsed as HTML.

const WORDS = new Set(("abstract as async await auto bool break case catch char class const constexpr continue def default delete do double elif else " +
  "end enum except export extends false final finally float fn for from func function go if impl import in include instanceof int interface is lambda let " +
  "long loop match mod mut namespace new nil None not null of operator or and override package pass private protected pub public raise return self sizeof " +
  "static string struct super switch template this throw trait true True False try type typedef typename union unsigned use using var virtual void where " +
  "while with yield select insert update create table join on group by order").split(" "));
const TOKEN = /(\/\/[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|#(?!include|define|if|endif|pragma)[^\n]*|--[ ][^\n]*)|("(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|`(?:\\.|[^`\\])*`?)|\b(\d[\w.]*)\b|([A-Za-z_]\w*)/g;

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Comments, strings, numbers and the words of common languages in colour; everything else as it is.
export function highlighted(code) {
  const out = document.createDocumentFragment();
  let done = 0;
  for (const found of code.matchAll(TOKEN)) {
    const kind = found[1] ? "comment" : found[2] ? "string" : found[3] ? "number" : WORDS.has(found[4]) ? "word" : "";
    if (!kind) continue;
    out.append(code.slice(done, found.index), element("span", {class: kind}, found[0]));
    done = found.index + found[0].length;
  }
  out.append(code.slice(done));
  return out;
}

function codeBlock(code, language) {
  const copy = element("button", {type: "button"}, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  return element("figure", {}, element("figcaption", {}, language || "code", copy),
    element("pre", {tabindex: "0"}, element("code", {}, highlighted(code))));
}

const INLINE = /(`+)([\s\S]*?[^`])\1(?!`)|\*\*(?=\S)([\s\S]*?\S)\*\*|\*(?=\S)([^*\n]*?\S)\*|~~(?=\S)([\s\S]*?\S)~~|\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)|(https?:\/\/[^\s<>)]+[^\s<>).,;:!?])/;

export function inline(text) {
  const out = document.createDocumentFragment();
  for (let found; (found = INLINE.exec(text)); text = text.slice(found.index + found[0].length)) {
    out.append(text.slice(0, found.index));
    const link = {rel: "noopener noreferrer nofollow", target: "_blank"};
    if (found[1]) out.append(element("code", {}, found[2]));
    else if (found[3]) out.append(element("strong", {}, inline(found[3])));
    else if (found[4]) out.append(element("em", {}, inline(found[4])));
    else if (found[5]) out.append(element("s", {}, inline(found[5])));
    else if (found[6]) out.append(element("a", {...link, href: found[7]}, found[6]));
    else out.append(element("a", {...link, href: found[8]}, found[8]));
  }
  out.append(text);
  return out;
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split("|").map(each => each.trim());
}

function table(lines) {
  const row = (line, name) => element("tr", {}, ...cells(line).map(each => element(name, {}, inline(each))));
  return element("table", {}, element("thead", {}, row(lines[0], "th")),
    element("tbody", {}, ...lines.slice(2).map(line => row(line, "td"))));
}

const ITEM = /^(\s*)([-*+]|\d+[.)])\s+(.*)$/;

// Lines of a list, nested by their indentation.
function list(lines) {
  const first = ITEM.exec(lines[0]);
  const made = element(/\d/.test(first[2]) ? "ol" : "ul", {});
  if (made.localName === "ol") made.start = parseInt(first[2], 10);
  for (let at = 0; at < lines.length;) {
    const item = ITEM.exec(lines[at]);
    const inner = [];
    for (at++; at < lines.length; at++) {
      const next = ITEM.exec(lines[at]);
      if (next && next[1].length <= first[1].length) break;
      inner.push(lines[at]);
    }
    const cut = Math.min(...inner.filter(line => line.trim()).map(line => line.length - line.trimStart().length));
    made.append(element("li", {}, inline(item[3]), blocks(inner.map(line => line.slice(Number.isFinite(cut) ? cut : 0)))));
  }
  return made;
}

function take(lines, at, fits) {
  let end = at;
  while (end < lines.length && fits(lines[end])) end++;
  return lines.slice(at, end);
}

function blocks(lines) {
  const out = document.createDocumentFragment();
  for (let at = 0; at < lines.length;) {
    const line = lines[at];
    const fence = /^\s*(```+|~~~+)\s*([\w+#.-]*)/.exec(line);
    const heading = /^(#{1,6})\s+(.*?)#*$/.exec(line);
    if (!line.trim()) {
      at++;
    } else if (fence) {
      const code = take(lines, at + 1, each => !each.trim().startsWith(fence[1]));
      out.append(codeBlock(code.join("\n"), fence[2]));
      at += code.length + 2;
    } else if (heading) {
      out.append(element("h" + Math.min(6, heading[1].length + 2), {}, inline(heading[2])));
      at++;
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
      out.append(element("hr", {}));
      at++;
    } else if (line.startsWith(">")) {
      const quoted = take(lines, at, each => each.startsWith(">"));
      out.append(element("blockquote", {}, blocks(quoted.map(each => each.replace(/^> ?/, "")))));
      at += quoted.length;
    } else if (ITEM.test(line)) {
      const items = take(lines, at, each => ITEM.test(each) || /^\s+\S/.test(each));
      out.append(list(items));
      at += items.length;
    } else if (line.includes("|") && /^[\s|:-]+$/.test(lines[at + 1] ?? "") && lines[at + 1].includes("-")) {
      const rows = take(lines, at, each => each.includes("|"));
      out.append(table(rows));
      at += rows.length;
    } else {
      const text = take(lines, at, each => each.trim() && !/^\s*(```|~~~|#{1,6}\s|>)/.test(each) && !ITEM.test(each));
      const own = text.length ? text : [line];
      out.append(element("p", {}, inline(own.join("\n"))));
      at += own.length;
    }
  }
  return out;
}

export function rendered(text) {
  return blocks(text.replace(/\r\n?/g, "\n").split("\n"));
}
