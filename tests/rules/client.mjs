// A client app: signs up at the Auth emulator, then uploads and writes with Firebase's SDK. Prints what became of each.
//
//   node client.mjs '{"user": "ada@example.com", "steps": [{"upload": "apps/…", "text": "…", "type": "text/plain"}, …]}'
//
// UID in a path stands for the user's id.

import { initializeApp } from "firebase/app";
import { connectAuthEmulator, createUserWithEmailAndPassword, getAuth, signInWithEmailAndPassword } from "firebase/auth";
import { connectFirestoreEmulator, deleteDoc, doc, getDoc, getFirestore, setDoc, setLogLevel } from "firebase/firestore";
import { connectStorageEmulator, getStorage, ref, uploadString } from "firebase/storage";

const { user, steps } = JSON.parse(process.argv[2]);
const at = (variable) => process.env[variable].split(":");
const app = initializeApp({ apiKey: "fake", projectId: "demo-brainstem", storageBucket: "demo-brainstem.appspot.com" });
setLogLevel("silent");
const [auth, db, storage] = [getAuth(app), getFirestore(app), getStorage(app)];
connectAuthEmulator(auth, `http://${process.env.FIREBASE_AUTH_EMULATOR_HOST}`, { disableWarnings: true });
const [firestoreHost, firestorePort] = at("FIRESTORE_EMULATOR_HOST");
connectFirestoreEmulator(db, firestoreHost, Number(firestorePort));
const [storageHost, storagePort] = at("FIREBASE_STORAGE_EMULATOR_HOST");
connectStorageEmulator(storage, storageHost, Number(storagePort));

const signUp = createUserWithEmailAndPassword(auth, user, "correct horse");
const signedIn = await signUp.catch(() => signInWithEmailAndPassword(auth, user, "correct horse"));
const { uid } = signedIn.user;
const named = (path) => path.replace("UID", uid);

const step = ({ upload, write, remove, read, text, type, data }) => {
  if (upload) return uploadString(ref(storage, named(upload)), text, "raw", { contentType: type ?? "text/plain" });
  if (write) return setDoc(doc(db, named(write)), data);
  if (remove) return deleteDoc(doc(db, named(remove)));
  return getDoc(doc(db, named(read)));
};

const results = [];
for (const each of steps) results.push(await step(each).then(() => "ok", (error) => error.code));
console.log(JSON.stringify({ uid, token: await signedIn.user.getIdToken(), results }));
process.exit(0);
