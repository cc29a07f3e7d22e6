export { default } from './Missing';
