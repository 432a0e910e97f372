// The gallery. Whatever comes from data is set as text or as the value of a property, never as markup.
"use strict";
(() => {
  const PAGE = 20;
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("gallery-data").textContent);
  const perBlock = data.images_per_block;
  const blocks = new Map();
  const results = find("gallery-queries");
  const controls = {};
  const several = new Set(data.methods.map((method) => method.evaluation)).size > 1;
  for (const name of ["method", "shots", "outcome", "gain", "baseline", "order", "search", "every"]) {
    const node = find("filter-" + name);
    if (node) controls[name] = node;
  }

  // A block of thumbnails is parsed when the first of them is shown.
  function image(number) {
    const block = Math.floor(number / perBlock);
    if (!blocks.has(block)) blocks.set(block, JSON.parse(find("images-" + block).textContent));
    return blocks.get(block)[number % perBlock];
  }

  function make(tag, className, ...children) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children);
    return node;
  }

  function picture(number, text) {
    if (number === null) return make("span", "blank", "no image");
    const node = make("img", "picture");
    node.loading = "lazy";
    node.decoding = "async";
    node.alt = text;
    node.src = image(number);
    return node;
  }

  // Zero-shot has no shots: its answer is compared at any number of shots.
  function answerOf(query, method, shots) {
    const at = data.methods[method].name === "zero_shot" ? 0 : shots;
    return query.answers[method + "/" + at] || null;
  }

  const percent = (value) => (100 * value).toFixed(1);

  function mark(accuracy) {
    if (!data.metric.in_percent) return make("span", "mark between", data.metric.title + " " + percent(accuracy));
    if (accuracy >= 1) return make("span", "mark right", "✓ right");
    if (accuracy <= 0) return make("span", "mark wrong", "✗ wrong");
    // Not "partly right": a reply that a metric can't read may score like a guess.
    return make("span", "mark between", "◐ scored " + percent(accuracy) + "%");
  }

  function demonstrations(places) {
    const shown = make("div", "shown");
    for (const place of places) {
      const [number, question, answer] = data.demonstrations[place];
      const caption = make("figcaption", "", make("span", "text", question), make("b", "", answer));
      shown.append(make("figure", "", picture(number, "picture of a demonstration"), caption));
    }
    if (!places.length) shown.append(make("span", "small", "no demonstrations"));
    return shown;
  }

  function choice(query, method, shots, chosen) {
    const answered = answerOf(query, method, shots);
    if (!answered) return null;
    const [places, prediction, accuracy] = answered;
    const said = make("div", "answer", make("span", "small", "VLM: "), make("span", "said", prediction || "(nothing)"), make("br"), mark(accuracy));
    return make("div", chosen ? "choice chosen" : "choice", who(method), demonstrations(places), said);
  }

  function who(method) {
    const node = make("div", "who", data.methods[method].name_shown);
    if (several) node.append(make("div", "small", data.methods[method].evaluation));
    return node;
  }

  function beams(query) {
    const node = make("details", "beams", make("summary", "", "The beams: " + query.beams.length + " best sequences of the search, with their scores"));
    node.addEventListener("toggle", () => {
      if (!node.open || node.children.length > 1) return;
      for (const [places, score] of query.beams) {
        const value = (score > 0 ? "+" : "") + score.toFixed(4);
        node.append(make("div", "beam", make("span", "score", value), demonstrations(places)));
      }
    });
    return node;
  }

  function card(query, state) {
    const about = make("div", "", make("p", "question", query.question));
    for (const option of query.choices) about.append(make("p", "small", option));
    const expected = make("p", "small", "expected: ", make("strong", "", query.expected.join(" / ")), make("br"), "id " + query.id);
    about.append(expected);
    const asked = make("div", "asked", picture(query.image, "picture of the query"), about);
    const choices = make("div", "choices");
    const others = data.methods.map((_, place) => place).filter((place) => place !== state.method);
    for (const method of [state.method, ...others]) {
      const beside = data.methods[method].first && data.methods[method].evaluation === data.methods[state.method].evaluation;
      const wanted = method === state.method || method === state.baseline || state.every || beside;
      const row = wanted && choice(query, method, state.shots, method === state.method);
      if (row) choices.append(row);
    }
    if (query.beams.length) choices.append(beams(query));
    return make("article", "query", asked, choices);
  }

  function read() {
    return {
      method: Number(controls.method.value),
      shots: Number(controls.shots.value),
      outcome: controls.outcome ? controls.outcome.value : "all",
      gain: controls.gain.value,
      baseline: Number(controls.baseline.value),
      order: controls.order.value,
      words: controls.search.value.toLowerCase().split(/\s+/).filter(Boolean),
      every: controls.every.checked,
    };
  }

  const texts = new Map();
  function text(query) {
    if (!texts.has(query)) {
      const said = Object.values(query.answers).map((one) => one[1]);
      texts.set(query, [query.id, query.question, ...query.expected, ...said].join(" ").toLowerCase());
    }
    return texts.get(query);
  }

  function matches(state) {
    const matched = [];
    for (const query of data.queries) {
      const answer = answerOf(query, state.method, state.shots);
      if (!answer) continue;
      const accuracy = answer[2];
      const outcome = accuracy >= 1 ? "right" : accuracy <= 0 ? "wrong" : "between";
      if (state.outcome !== "all" && state.outcome !== outcome) continue;
      const against = answerOf(query, state.baseline, state.shots);
      const gain = against ? accuracy - against[2] : null;
      const sign = gain === null ? "none" : gain > 0 ? "better" : gain < 0 ? "worse" : "same";
      if (state.gain !== "all" && state.gain !== sign) continue;
      if (!state.words.every((word) => text(query).includes(word))) continue;
      matched.push([gain === null ? 0 : gain, query]);
    }
    // Sorting is stable: equal gains keep the order of the hashes.
    if (state.order === "gain") matched.sort((one, other) => other[0] - one[0]);
    if (state.order === "loss") matched.sort((one, other) => one[0] - other[0]);
    return matched.map((one) => one[1]);
  }

  let state, matched, shown;
  function more() {
    const next = matched.slice(shown, shown + PAGE);
    results.append(...next.map((query) => card(query, state)));
    shown += next.length;
    find("gallery-more").hidden = shown >= matched.length;
  }

  function update() {
    state = read();
    matched = matches(state);
    shown = 0;
    results.replaceChildren();
    const share = data.queries.length ? percent(matched.length / data.queries.length) : "0.0";
    find("gallery-count").textContent = matched.length.toLocaleString("en") + " of " + data.queries.length.toLocaleString("en") + " queries (" + share + "%)";
    more();
  }

  function option(select, value, label) {
    const node = make("option", "", label);
    node.value = value;
    select.append(node);
  }
  data.methods.forEach((method, place) => {
    option(controls.method, place, method.label);
    option(controls.baseline, place, method.label);
  });
  for (const at of data.shots) option(controls.shots, at, at);
  controls.shots.value = data.headline_shots;
  controls.baseline.value = Math.max(0, data.methods.findIndex((method) => method.name === "zero_shot"));
  for (const node of Object.values(controls)) node.addEventListener(node.type === "search" ? "input" : "change", update);
  find("gallery-more").addEventListener("click", more);
  if ("IntersectionObserver" in window) {
    const seen = (entries) => { if (entries.some((entry) => entry.isIntersecting) && shown < matched.length) more(); };
    new IntersectionObserver(seen, { rootMargin: "600px" }).observe(find("gallery-more"));
  }
  update();
})();
