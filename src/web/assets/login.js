// Showing who one is: a name and a password, or a token.

import { el } from "./dom.js";
import { logIn } from "./session.js";

export function login(main) {
  const user = el("input", { id: "user", name: "user", autocomplete: "username", autocapitalize: "none" });
  const password = el("input", { id: "password", name: "password", type: "password", autocomplete: "current-password" });
  const token = el("input", { id: "token", name: "token", type: "password", autocomplete: "off" });
  const wrong = el("p", { class: "wrong", role: "alert" });
  const button = el("button", { class: "primary", type: "submit" }, "Log in");
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    wrong.textContent = "";
    try {
      await logIn(token.value ? { token: token.value } : { user: user.value, password: password.value });
    } catch (error) {
      wrong.textContent = error.message;
      button.disabled = false;
    }
  };
  main.append(
    el("form", { class: "card login", onsubmit: submit, novalidate: true },
      el("h1", {}, "Log in"),
      el("label", { for: "user" }, "Name"), user,
      el("label", { for: "password" }, "Password"), password,
      el("p", { class: "or" }, "or"),
      el("label", { for: "token" }, "Token"), token,
      wrong, button),
  );
  user.focus();
}
