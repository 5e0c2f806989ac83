// The switches and the buttons of the sandbox.
const post = (path, fields) => fetch("/_sandbox/" + path, {
  method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(fields)});
addEventListener("click", ({target: {dataset}}) => {
  if (dataset.advance) post("time", {advance_s: Number(dataset.advance)});
  if (dataset.once) post("faults", {kind: dataset.once, times: 1});
  if ("reset" in dataset) post("reset", {});
});
addEventListener("change", ({target}) => {
  if (target.dataset.fault) post("faults", {kind: target.dataset.fault, probability: Number(target.checked)});
});
