/** App Check: a token that says which Firebase app this page is, had for a proof of reCAPTCHA Enterprise. */

import { wait } from '../dom.js';
import { getToken, initializeAppCheck, ReCaptchaEnterpriseProvider } from '../vendor/firebase-app-check.js';

const SCRIPTS = ['https://www.google.com/recaptcha/', 'https://www.gstatic.com/recaptcha/'];
const PATIENCE = 10_000;

/** Return what gives the token, or null where none is to be had: whether one is needed is for the server to say. */
export function appCheck(app, key) {
  // The SDK loads reCAPTCHA by plain addresses, which trusted types forbid unless a policy lets them through: these and no others.
  globalThis.trustedTypes?.createPolicy('default', { createScriptURL: (url) => (SCRIPTS.some((start) => url.startsWith(start)) ? url : null) });
  const check = initializeAppCheck(app, { provider: new ReCaptchaEnterpriseProvider(key), isTokenAutoRefreshEnabled: true });
  const token = () => getToken(check).then(
    (result) => result.token,
    () => null,
  );
  return () => Promise.race([token(), wait(PATIENCE).then(() => null)]);
}
