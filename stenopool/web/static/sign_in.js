// A link of `stenopool up` has its token behind the #, which no browser sends: it is in no log.
const form = document.querySelector("form.sign-in");

function redeem() {
  const link = new URLSearchParams(location.hash.slice(1)).get("link");
  if (!link) return false;
  history.replaceState(null, "", location.pathname + location.search);
  form.elements.key.disabled = true;
  form.append(Object.assign(document.createElement("input"), { type: "hidden", name: "link", value: link }));
  form.submit();
  return true;
}

addEventListener("hashchange", redeem); // the link is opened where this page is shown already
if (!redeem() && !form.querySelector("[role=alert]")) {
  // Who was led here from another site came without the cookie; who asks from here brings it.
  const { signed_in } = await (await fetch("/session")).json();
  if (signed_in) location.replace(form.elements.next.value);
}
